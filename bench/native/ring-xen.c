/* assembly/ring/blkif.ts and grant.ts in C, over the same memory (assembly/spec/xen*.ts). Reads and writes only: of the
 * other operations the bench uses none, and an untaken branch more would not show. */
#include "harness.h"
#include <assert.h>
#include <stdbool.h>
#include <stddef.h>

enum { PAGE = 4096, LIMIT = 11, IO = 7, OUT_OF_RANGE = 2, READ_ONLY = 5, PENDING = 1, UNSUPPORTED = 6 };
enum { PERMIT = 1, TYPE = 3, GTF_READ_ONLY = 4, READING = 8, WRITING = 16, SUB_PAGE = 256, FLAGS = 0xfff };
enum { NOTIFY = 1, MORE = 2, FATAL = 4 };

struct grants {
  uint32_t shared, entries, active, ram_base, ram_size, unused;
};
struct active {
  uint32_t page, pins;
};
struct back {
  uint32_t stride, entries, produced, consumed;
  uint8_t scratch[112];
  uint32_t pages[16];
  uint32_t body, grants, domain, shift;
  uint64_t sectors;
  uint32_t features, max_indirect, broken;
};
static_assert(offsetof(struct back, pages) == 128, "RingContext.Pages");
static_assert(offsetof(struct back, sectors) == 208, "BlkbackContext.Sectors");
static_assert(offsetof(struct back, broken) == 224, "BlkbackContext.Broken");
struct record {
  uint32_t op, status;
  double offset, length;
  uint32_t first, segments, tag;
  uint32_t id[2];
  uint32_t operation, linked, unused;
};
static_assert(sizeof(struct record) == 56, "RequestField.Size");
struct table {
  uint32_t request_capacity, segment_capacity, requests, segments;
  struct record records[];
};
struct segment {
  uint32_t start, length;
};
struct entry {
  uint8_t op, segments;
  uint16_t handle;
  uint32_t pad;
  uint64_t id, sector;
  struct {
    uint32_t ref;
    uint8_t first, last;
    uint16_t pad;
  } segment[LIMIT];
};
struct sring {
  volatile uint32_t req_prod, req_event, rsp_prod, rsp_event;
  uint8_t pad[48];
};

static uint8_t *memory_base;
#define AT(type, address) ((type *)(memory_base + (address)))

static uint32_t grant_map(const struct grants *grants, uint32_t domain, uint32_t ref, bool write) {
  if (ref >= grants->entries) return 0;
  struct active *active = AT(struct active, grants->active) + ref;
  volatile uint64_t *entry = AT(volatile uint64_t, grants->shared) + ref;
  uint32_t page;
  if (active->pins == 0) {
    uint64_t value = *entry;
    uint32_t flags = value & 0xffff, frame = value >> 32;
    if ((flags & (TYPE | SUB_PAGE)) != PERMIT || (uint32_t)value >> 16 != domain) return 0;
    uint64_t start = (uint64_t)frame << 12;
    if (start > grants->ram_size || PAGE > grants->ram_size - start) return 0;
    page = (grants->ram_base + start) | (flags & FLAGS & ~(READING | WRITING));
  } else {
    page = active->page;
  }
  if (write && page & GTF_READ_ONLY) return 0;
  uint32_t used = page | READING | (write ? WRITING : 0);
  if (active->pins == 0 || used != page) *(volatile uint16_t *)entry = used & FLAGS;
  active->page = used;
  active->pins++;
  return page & ~FLAGS;
}

static void grant_unmap(const struct grants *grants, uint32_t ref) {
  if (ref >= grants->entries) return;
  struct active *active = AT(struct active, grants->active) + ref;
  if (active->pins == 0 || --active->pins != 0) return;
  volatile uint16_t *flags = (volatile uint16_t *)(AT(uint64_t, grants->shared) + ref);
  *flags &= ~(READING | WRITING);
}

static struct segment *segments_of(struct table *table) {
  return (struct segment *)(table->records + table->request_capacity);
}

static uint32_t *refs_of(struct table *table) {
  return (uint32_t *)(segments_of(table) + table->segment_capacity);
}

static void consume_one(const struct back *back, struct table *table, const volatile struct entry *entry) {
  const struct grants *grants = AT(struct grants, back->grants);
  uint32_t header = *(const volatile uint32_t *)entry, op = header & 0xff, count = header >> 8 & 0xff;
  uint64_t id = entry->id, sector = entry->sector;
  uint32_t first = table->segments, length = 0, status = PENDING;
  if (op > 1) {
    status = UNSUPPORTED;
  } else if (count == 0 || count > LIMIT) {
    status = IO;
  } else {
    struct segment *segment = segments_of(table) + first;
    uint32_t *refs = refs_of(table) + first;
    for (uint32_t i = 0; i < count; i++) {
      uint64_t value = *(const volatile uint64_t *)&entry->segment[i];
      uint32_t from = value >> 32 & 0xff, to = value >> 40 & 0xff;
      if (from > to || to >= PAGE >> back->shift) {
        length = 0;
        break;
      }
      uint32_t page = grant_map(grants, back->domain, value, op == 0);
      if (page == 0) {
        length = 0;
        break;
      }
      uint32_t bytes = (to - from + 1) << back->shift;
      refs[i] = value;
      segment[i] = (struct segment){page + (from << back->shift), bytes};
      table->segments++;
      length += bytes;
    }
    if (length == 0) status = IO;
    else if (op == 1 && back->features & 8) status = READ_ONLY;
    else if (sector > back->sectors || length >> back->shift > back->sectors - sector) status = OUT_OF_RANGE;
  }
  double offset = status == PENDING ? (double)(int64_t)(sector << back->shift) : 0;
  table->records[table->requests++] = (struct record){
      .op = op == 0 ? 0 : 1, .status = status, .offset = offset, .length = length, .first = first,
      .segments = table->segments - first, .id = {id, id >> 32}, .operation = op};
}

static __attribute__((noinline)) uint32_t consume(struct back *back, struct table *table) {
  table->requests = table->segments = 0;
  if (back->broken) return FATAL;
  struct sring *ring = AT(struct sring, back->pages[0]);
  uint32_t produced = ring->req_prod, index = back->consumed;
  if (produced - index > back->entries - (index - back->produced)) {
    back->broken = 1;
    return FATAL;
  }
  while (index != produced && table->request_capacity - table->requests >= 3 &&
         table->segment_capacity - table->segments >= LIMIT) {
    const uint8_t *at = (uint8_t *)(ring + 1) + (index++ & (back->entries - 1)) * back->stride;
    consume_one(back, table, (const volatile struct entry *)at);
  }
  back->consumed = index;
  return 0;
}

static __attribute__((noinline)) uint32_t complete(struct back *back, struct table *table, uint32_t count) {
  const struct grants *grants = AT(struct grants, back->grants);
  struct sring *ring = AT(struct sring, back->pages[0]);
  uint32_t old = back->produced, produced = old;
  for (uint32_t i = 0; i < count; i++) {
    const struct record *record = table->records + i;
    const uint32_t *refs = refs_of(table) + record->first;
    for (uint32_t j = 0; j < record->segments; j++) grant_unmap(grants, refs[j]);
    int16_t code = record->status == 0 ? 0 : record->status == UNSUPPORTED ? -2 : -1;
    uint32_t *at = (uint32_t *)((uint8_t *)(ring + 1) + (produced++ & (back->entries - 1)) * back->stride);
    at[0] = record->id[0];
    at[1] = record->id[1];
    at[2] = (record->operation & 0xff) | (uint32_t)(uint16_t)code << 16;
    at[3] = 0;
  }
  back->produced = produced;
  uint32_t result = 0;
  if (produced != old) {
    ring->rsp_prod = produced;
    if (produced - ring->rsp_event < produced - old) result = NOTIFY;
  }
  ring->req_event = back->consumed + 1;
  if (ring->req_prod != back->consumed) result |= MORE;
  return result;
}

/* Parameters: addresses of the back end's context, the request table, the ring and the requests to post; their number. */
static double run(uint8_t *memory, long operations, const long *parameters) {
  memory_base = memory;
  struct back *back = AT(struct back, parameters[0]);
  struct table *table = AT(struct table, parameters[1]);
  struct sring *ring = AT(struct sring, parameters[2]);
  const uint32_t *posts = AT(uint32_t, parameters[3]);
  uint32_t entries = parameters[4];
  double sum = 0;
  for (long done = 0; done < operations; done += entries) {
    for (uint32_t i = 0; i < entries; i++) {
      uint32_t *entry = (uint32_t *)((uint8_t *)(ring + 1) + i * 112);
      entry[0] = posts[i];
      entry[2] = i;
      entry[3] = 0;
    }
    ring->req_prod += entries;
    sum += consume(back, table);
    const struct segment *segments = segments_of(table);
    for (uint32_t i = 0; i < table->requests; i++) {
      struct record *record = table->records + i;
      sum += record->offset / 512 + (segments[record->first].start >> 9);
      record->status = 0;
    }
    sum += complete(back, table, table->requests);
  }
  return sum;
}
