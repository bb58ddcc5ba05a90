/* assembly/map in C, over the same context (assembly/spec/map.ts), as a C programmer would have it: structs and pointers. */
#include "harness.h"
#include <assert.h>
#include <stdbool.h>
#include <stddef.h>

enum { FLAT, TABLE, TREE };
enum { DATA, ZERO };
enum { DONE, FULL, MISS, ALLOCATE, CORRUPT };
enum { RANGES = 256, EXTENTS = 1024, WAYS = 4 };

struct entries {
  uint32_t shift, big_endian;
  uint64_t mask, absent, zero, unit, data;
};
struct cache {
  uint32_t page_shift, set_mask, tags, pages, clock, hits, misses, unused;
};
struct tag {
  uint32_t key, stamp;
};
struct range {
  double offset, length;
  uint32_t write, unused;
};
struct extent {
  double position, length;
  uint32_t kind, range;
};
struct map {
  uint32_t kind, hole, extent_count, stop_range, stop_key, block_shift, span_shift, leaf_shift, bit_shift, flags;
  double stop_offset, stop_length, stop_position;
  uint64_t base, limit, table_start, table_end;
  uint64_t run_kind, run_position, run_length;
  struct entries top, leaf;
  struct cache top_cache, leaf_cache;
  struct range ranges[RANGES];
  struct extent extents[EXTENTS];
  uint64_t data_end;
};
static_assert(offsetof(struct map, top) == 120, "MapField.Top");
static_assert(offsetof(struct map, leaf_cache) == 248, "MapField.LeafCache");
static_assert(offsetof(struct map, ranges) == 280, "MapField.Ranges");
static_assert(sizeof(struct map) == 31008, "MapField.Size");

struct run {
  uint32_t kind;
  uint64_t position, length;
};

static uint64_t min(uint64_t a, uint64_t b) { return a < b ? a : b; }

static uint8_t *cached_page(struct map *map, struct cache *cache, uint32_t key) {
  uint32_t first = (key & cache->set_mask) * WAYS;
  struct tag *tag = (struct tag *)((uint8_t *)map + cache->tags) + first;
  for (int way = 0; way < WAYS; way++) {
    if (tag[way].key == key + 1) {
      tag[way].stamp = ++cache->clock;
      cache->hits++;
      return (uint8_t *)map + cache->pages + ((size_t)(first + way) << cache->page_shift);
    }
  }
  cache->misses++;
  return NULL;
}

static uint64_t read_entry(const struct entries *format, const uint8_t *at) {
  uint64_t value;
  if (format->shift == 2) {
    uint32_t raw;
    memcpy(&raw, at, 4);
    value = format->big_endian ? __builtin_bswap32(raw) : raw;
  } else {
    uint64_t raw;
    memcpy(&raw, at, 8);
    value = format->big_endian ? __builtin_bswap64(raw) : raw;
  }
  return value & format->mask;
}

static bool placed(const struct map *map, uint64_t start, uint64_t end) {
  return start >= map->base && end <= map->limit && (end <= map->table_start || start >= map->table_end);
}

static int answer(struct run *run, uint32_t kind, uint64_t position, uint64_t length) {
  *run = (struct run){kind, position, length};
  return DONE;
}

static int miss(struct map *map, uint32_t level, uint32_t key, uint64_t position) {
  map->stop_key = key * 2 + level;
  map->stop_position = position;
  return MISS;
}

static int corrupt(struct map *map, uint64_t position) {
  map->stop_position = position;
  return CORRUPT;
}

static uint8_t *top_entry(struct map *map, uint32_t index) {
  uint64_t byte = (uint64_t)index << map->top.shift;
  uint32_t shift = map->top_cache.page_shift;
  uint32_t key = byte >> shift;
  uint8_t *page = cached_page(map, &map->top_cache, key);
  if (!page) {
    miss(map, 0, key, map->table_start + ((uint64_t)key << shift));
    return NULL;
  }
  return page + (byte & ((1ull << shift) - 1));
}

static int bitmap_run(struct map *map, struct run *run, uint32_t index, uint64_t start, uint64_t data, uint64_t within,
                      uint64_t length) {
  uint32_t unit = map->bit_shift, page_shift = map->leaf_cache.page_shift;
  uint64_t page_of_block = within >> (unit + page_shift + 3);
  uint32_t key = (index << (map->leaf_shift - page_shift)) + page_of_block;
  uint8_t *page = cached_page(map, &map->leaf_cache, key);
  if (!page) return miss(map, 1, key, start + (page_of_block << page_shift));

  uint32_t bits = 8u << page_shift;
  uint32_t first = (within >> unit) & (bits - 1);
  uint64_t inside = within & ((1ull << unit) - 1);
  uint32_t end = min(bits, first + ((inside + length + (1ull << unit) - 1) >> unit));
  bool set = page[first >> 3] >> (7 - (first & 7)) & 1;
  uint64_t flip = set ? 0 : ~0ull;
  uint32_t next = first;
  do {
    uint64_t word;
    memcpy(&word, page + (next >> 6 << 3), 8);
    word ^= flip;
    next += ~word ? __builtin_clzll(~(__builtin_bswap64(word) << (next & 63))) : 64 - (next & 63);
  } while (next < end && (next & 63) == 0);
  uint64_t bytes = min(length, ((uint64_t)((next < end ? next : end) - first) << unit) - inside);
  return set ? answer(run, DATA, data + within, bytes) : answer(run, map->hole, 0, bytes);
}

static int table_run(struct map *map, struct run *run, uint64_t offset, uint64_t left) {
  uint64_t block = 1ull << map->block_shift;
  uint64_t within = offset & (block - 1);
  uint64_t length = min(left, block - within);
  uint32_t index = offset >> map->block_shift;
  uint8_t *at = top_entry(map, index);
  if (!at) return MISS;
  uint64_t value = read_entry(&map->top, at);
  if (value == map->top.absent) return answer(run, map->hole, 0, length);
  if (value == map->top.zero) return answer(run, ZERO, 0, length);
  uint64_t start = value * map->top.unit;
  uint64_t data = start + map->top.data;
  if (!placed(map, start, data + block)) return corrupt(map, start);
  if (!map->bit_shift) return answer(run, DATA, data + within, length);
  return bitmap_run(map, run, index, start, data, within, length);
}

static int tree_run(struct map *map, struct run *run, uint64_t offset, uint64_t left) {
  uint32_t index = offset >> map->span_shift;
  uint64_t within_span = offset & ((1ull << map->span_shift) - 1);
  uint8_t *at = top_entry(map, index);
  if (!at) return MISS;
  uint64_t table = read_entry(&map->top, at);
  if (table == map->top.absent) return answer(run, map->hole, 0, min(left, (1ull << map->span_shift) - within_span));
  uint64_t table_start = table * map->top.unit;
  if (!placed(map, table_start, table_start + (1ull << map->leaf_shift))) return corrupt(map, table_start);

  uint64_t block = 1ull << map->block_shift;
  uint64_t within = offset & (block - 1);
  uint64_t length = min(left, block - within);
  uint64_t byte = within_span >> map->block_shift << map->leaf.shift;
  uint32_t page_shift = map->leaf_cache.page_shift;
  uint32_t key = (index << (map->leaf_shift - page_shift)) + (byte >> page_shift);
  uint8_t *page = cached_page(map, &map->leaf_cache, key);
  if (!page) return miss(map, 1, key, table_start + (byte >> page_shift << page_shift));

  uint64_t value = read_entry(&map->leaf, page + (byte & ((1ull << page_shift) - 1)));
  if (value == map->leaf.absent) return answer(run, map->hole, 0, length);
  if (value == map->leaf.zero) return answer(run, ZERO, 0, length);
  uint64_t start = value * map->leaf.unit;
  uint64_t data = start + map->leaf.data;
  if (!placed(map, start, data + block)) return corrupt(map, start);
  return answer(run, DATA, data + within, length);
}

static int run_at(struct map *map, struct run *run, uint64_t offset, uint64_t left) {
  if (map->kind == TABLE) return table_run(map, run, offset, left);
  if (map->kind == TREE) return tree_run(map, run, offset, left);
  uint64_t position = map->base + offset;
  if (position >= map->limit) return answer(run, map->hole, 0, left);
  return answer(run, DATA, position, min(left, map->limit - position));
}

static uint64_t homeless(struct map *map, struct run *run, uint64_t offset, uint64_t left) {
  uint64_t length = 0;
  do {
    length += run->length;
  } while (length < left && run_at(map, run, offset + length, left - length) == DONE && run->kind != DATA);
  return length;
}

static bool emit(struct map *map, uint32_t range, const struct run *run) {
  uint32_t count = map->extent_count;
  double position = run->position;
  struct extent *extent = map->extents + count;
  if (count) {
    struct extent *last = extent - 1;
    if (last->range == range && last->kind == run->kind &&
        (run->kind != DATA || last->position + last->length == position)) {
      last->length += run->length;
      return true;
    }
    if (count == EXTENTS) return false;
  }
  *extent = (struct extent){position, run->length, run->kind, range};
  map->extent_count = count + 1;
  return true;
}

/* Not inlined into the bench: a library's entry point would not be. */
static __attribute__((noinline)) int map_resolve(struct map *map, uint32_t count) {
  map->extent_count = 0;
  for (uint32_t index = 0; index < count; index++) {
    struct range *range = map->ranges + index;
    uint64_t offset = range->offset, left = range->length;
    bool write = range->write;
    while (left) {
      struct run run;
      int stop = run_at(map, &run, offset, left);
      if (stop == DONE && write && run.kind != DATA) {
        map->stop_length = homeless(map, &run, offset, left);
        stop = ALLOCATE;
      }
      if (stop == DONE && !emit(map, index, &run)) stop = FULL;
      if (stop != DONE) {
        map->stop_range = index;
        map->stop_offset = offset;
        return stop;
      }
      offset += run.length;
      left -= run.length;
      range->offset = offset;
      range->length = left;
    }
  }
  return DONE;
}

/* Parameters: where the ranges' starts are and how many, bytes of each range, ranges a call. */
static double run(uint8_t *memory, long operations, const long *parameters) {
  struct map *map = (struct map *)memory;
  const double *starts = (const double *)(memory + parameters[0]);
  long count = parameters[1], length = parameters[2], batch = parameters[3];
  double sum = 0;
  long next = 0;
  for (long done = 0; done < operations; done += batch) {
    for (long i = 0; i < batch; i++) {
      map->ranges[i] = (struct range){starts[next], length, 0, 0};
      if (++next == count) next = 0;
    }
    sum += map_resolve(map, batch);
    for (uint32_t i = 0; i < map->extent_count; i++) {
      sum += (map->extents[i].position + map->extents[i].length) / 512 + map->extents[i].kind;
    }
  }
  return sum;
}
