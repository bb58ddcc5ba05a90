/* What assembly/ide does with a DMA command in C over the same memory (assembly/spec/ide.ts). */
#include "harness.h"
#include <assert.h>
#include <stdbool.h>
#include <stddef.h>

enum { R_ERROR = 1, R_COUNT, R_LOW, R_MID, R_HIGH, R_DEVICE, R_COMMAND, R_CONTROL, BM_COMMAND = 16, BM_STATUS = 18,
       BM_TABLE = 20 };
enum { ERR = 1, DRQ = 8, DSC = 0x10, RDY = 0x40, BSY = 0x80 };
enum { BM_ACTIVE = 1, BM_ERROR = 2, BM_INTERRUPT = 4, BM_CAPABLE = 0x60 };
enum { IDLE = 0, DMA_PHASE = 4, DMA_PROTOCOL = 4, WRITE_OP = 2, EVENT_LINE = 1, EVENT_IO = 2 };
enum { EXT = 0x800, ADDRESSED = 0x1000, MULTIPLE = 0x2000 };
enum { EXACT, LONG_TABLE, SHORT_TABLE, BAD_ADDRESS };
#define NOWHERE UINT64_MAX

struct drive {
  uint32_t kind, status, error, interrupt, now[8], before[8];
  uint64_t sectors;
  uint32_t cylinders, heads, track, current_cylinders, current_heads, current_track;
  uint32_t multiple, transfer, write_cache, read_ahead;
  uint32_t sector_bytes, refused, byte_port, unused[5];
};
static_assert(sizeof(struct drive) == 160, "DriveField.Size");
struct channel {
  uint32_t ram_base, ram_size, table, selected, control, line, event, phase, bm_command, bm_status, bm_table, in_flight;
  uint32_t op, protocol, traits, fault;
  uint64_t lba;
  uint32_t remaining, block, moving, buffer_at, buffer_end, outcome;
  uint32_t unit, command, step, last, abort, unused[3];
  struct drive drives[2];
  uint32_t commands[256];
  uint8_t buffer[65536];
};
static_assert(offsetof(struct channel, drives) == 128, "IdeField.Drives");
static_assert(sizeof(struct channel) == 67008, "IdeField.Size");
struct record {
  uint32_t op, status;
  double offset, length;
  uint32_t first, segments, tag, private[5];
};
struct segment {
  uint32_t start, length;
};
struct table {
  uint32_t request_capacity, segment_capacity, requests, segments;
  struct record records[];
};

static uint8_t *memory_base;
#define AT(type, address) ((type *)(memory_base + (address)))

static void update_line(struct channel *c) {
  uint32_t level = c->control & 2 ? 0 : c->drives[c->selected].interrupt;
  if (level == c->line) return;
  c->line = level;
  if (level) c->bm_status |= BM_INTERRUPT;
  c->event |= EVENT_LINE;
}

static void set_interrupt(struct channel *c, struct drive *d, uint32_t wanted) {
  d->interrupt = wanted;
  update_line(c);
}

static uint64_t read_address(const struct drive *d, uint32_t traits) {
  uint32_t low = d->now[R_LOW], mid = d->now[R_MID], high = d->now[R_HIGH], head = d->now[R_DEVICE] & 15;
  if (d->now[R_DEVICE] & 0x40) {
    uint64_t below = low | mid << 8 | high << 16;
    if (!(traits & EXT)) return below | (uint64_t)head << 24;
    return below | (uint64_t)d->before[R_LOW] << 24 | (uint64_t)d->before[R_MID] << 32 |
           (uint64_t)d->before[R_HIGH] << 40;
  }
  if (low == 0 || low > d->current_track || head >= d->current_heads) return NOWHERE;
  return ((mid | high << 8) * d->current_heads + head) * d->current_track + low - 1;
}

static void write_address(struct drive *d, uint32_t traits, uint64_t lba) {
  uint32_t head;
  if (d->now[R_DEVICE] & 0x40) {
    d->now[R_LOW] = lba & 0xff;
    d->now[R_MID] = lba >> 8 & 0xff;
    d->now[R_HIGH] = lba >> 16 & 0xff;
    if (traits & EXT) {
      d->before[R_LOW] = lba >> 24 & 0xff;
      d->before[R_MID] = lba >> 32 & 0xff;
      d->before[R_HIGH] = lba >> 40 & 0xff;
      return;
    }
    head = lba >> 24;
  } else {
    uint32_t heads = d->current_heads, track = d->current_track;
    if (heads == 0 || track == 0) return;
    uint32_t cylinder = lba / (heads * track), within = lba % (heads * track);
    d->now[R_MID] = cylinder & 0xff;
    d->now[R_HIGH] = cylinder >> 8 & 0xff;
    d->now[R_LOW] = within % track + 1;
    head = within / track;
  }
  d->now[R_DEVICE] = (d->now[R_DEVICE] & ~15) | (head & 15);
}

static void write_count(struct drive *d, uint32_t traits, uint32_t count) {
  d->now[R_COUNT] = count & 0xff;
  if (traits & EXT) d->before[R_COUNT] = count >> 8 & 0xff;
}

static void fail(struct channel *c, struct drive *d, uint32_t error, uint32_t extra) {
  if (c->protocol == DMA_PROTOCOL) c->bm_status &= ~BM_ACTIVE;
  c->in_flight = 0;
  d->error = error;
  c->phase = IDLE;
  d->status = RDY | ERR | extra;
  set_interrupt(c, d, 1);
}

static void start_dma(struct channel *c) {
  if (!(c->bm_status & BM_ACTIVE) || c->phase != DMA_PHASE || c->in_flight) return;
  c->moving = c->remaining;
  c->in_flight = 1;
  c->event |= EVENT_IO;
}

static void command(struct channel *c, struct drive *d, uint32_t code) {
  if (d->kind == 0) return;
  set_interrupt(c, d, 0);
  uint32_t entry = c->commands[code], remaining = 1, block = 1, fault = 0;
  bool refused = (entry & d->kind << 16) == 0;
  if (entry & d->refused) refused = true;
  uint64_t lba = 0;
  if (entry & ADDRESSED) {
    remaining = d->now[R_COUNT];
    if (entry & EXT) {
      if (!(d->now[R_DEVICE] & 0x40)) refused = true;
      remaining |= d->before[R_COUNT] << 8;
      if (remaining == 0) remaining = 65536;
    } else if (remaining == 0) {
      remaining = 256;
    }
    lba = read_address(d, entry);
    if (lba == NOWHERE) {
      lba = 0;
      fault = 0x10;
    }
  }
  if (entry & MULTIPLE) {
    block = d->multiple;
    if (block == 0) refused = true;
  }
  c->op = refused ? 0 : entry & 0xff;
  c->protocol = refused ? 0 : entry >> 8 & 7;
  c->traits = entry;
  c->fault = refused ? 4 : fault;
  c->lba = lba;
  c->remaining = remaining;
  c->block = block;
  c->unit = d->sector_bytes;
  c->command = code;
  c->step = 0;
  d->error = 0;
  if (c->protocol == DMA_PROTOCOL) {
    c->phase = DMA_PHASE;
    d->status = RDY | DSC | DRQ;
    start_dma(c);
  } else {
    fail(c, d, c->fault, 0);
  }
}

/* A port access is a call of its own: its caller is the bus. */
static __attribute__((noinline)) uint32_t ide_write(struct channel *c, uint32_t reg, uint32_t value) {
  c->event = 0;
  struct drive *d = c->drives + c->selected;
  if (reg == BM_TABLE) {
    c->bm_table = value & ~3u;
  } else if (reg == BM_STATUS) {
    c->bm_status = (c->bm_status & ~BM_CAPABLE & ~(value & (BM_ERROR | BM_INTERRUPT))) | (value & BM_CAPABLE);
  } else if (reg == BM_COMMAND) {
    uint32_t was = c->bm_command;
    c->bm_command = value & 9;
    if ((was ^ value) & 1) {
      if (value & 1) {
        c->bm_status |= BM_ACTIVE;
        start_dma(c);
      } else {
        c->bm_status &= ~BM_ACTIVE;
      }
    }
  } else if (reg == R_CONTROL) {
    c->control = value;
    update_line(c);
  } else {
    if (reg == R_COMMAND) {
      c->control &= ~0x80;
      set_interrupt(c, d, 0);
    }
    if ((d->status & (BSY | DRQ)) || c->phase != IDLE) return c->event;
    c->control &= ~0x80;
    if (reg == R_COMMAND) {
      command(c, d, value);
    } else if (reg == R_DEVICE) {
      c->drives[0].now[reg] = c->drives[1].now[reg] = value | 0xa0;
      c->selected = value & 0x10 ? 1 : 0;
      update_line(c);
    } else {
      for (int i = 0; i < 2; i++) {
        c->drives[i].before[reg] = c->drives[i].now[reg];
        c->drives[i].now[reg] = value;
      }
    }
  }
  return c->event;
}

static __attribute__((noinline)) uint32_t ide_read(struct channel *c, uint32_t reg) {
  c->event = 0;
  struct drive *d = c->drives + c->selected;
  if (reg == BM_COMMAND) return c->bm_command;
  if (reg == BM_STATUS) return c->bm_status;
  if (d->kind == 0) {
    if (d == c->drives || c->drives[0].kind == 0 || reg >= R_COMMAND) return 0;
    if (reg == R_DEVICE) return d->now[reg];
    d = c->drives;
  }
  if (reg == R_COMMAND) {
    set_interrupt(c, d, 0);
    return d->status;
  }
  if (reg >= R_CONTROL) return d->status;
  if (reg == R_DEVICE) return d->now[reg];
  if (c->control & 0x80) return d->before[reg];
  return reg == R_ERROR ? d->error : d->now[reg];
}

static void end_dma(struct channel *c, struct drive *d) {
  c->in_flight = 0;
  c->phase = IDLE;
  d->status = RDY | DSC;
  if (c->outcome != LONG_TABLE) c->bm_status &= ~BM_ACTIVE;
  if (c->outcome != SHORT_TABLE) set_interrupt(c, d, 1);
}

static uint32_t walk(struct channel *c, struct table *table, uint32_t need) {
  uint32_t base = c->ram_base, size = c->ram_size, at = c->bm_table, left = need;
  struct segment *segments = (struct segment *)(table->records + table->request_capacity);
  for (int i = 0; i < 512; i++, at += 8) {
    if (at > size || 8 > size - at) return left == 0 ? EXACT : BAD_ADDRESS;
    const volatile uint32_t *entry = AT(uint32_t, base + at);
    uint32_t address = entry[0], count = entry[1], length = count & 0xfffe;
    if (length == 0) length = 65536;
    uint32_t take = length < left ? length : left;
    if (take) {
      if (address > size || take > size - address) return BAD_ADDRESS;
      segments[table->segments++] = (struct segment){base + address, take};
      left -= take;
    }
    if (length > take) return LONG_TABLE;
    if (count >> 31) return left == 0 ? EXACT : SHORT_TABLE;
  }
  return left == 0 ? EXACT : SHORT_TABLE;
}

static __attribute__((noinline)) uint32_t ide_prd(struct channel *c) {
  struct drive *d = c->drives + c->selected;
  struct table *table = AT(struct table, c->table);
  uint32_t need = c->moving * c->unit;
  c->event = 0;
  table->requests = table->segments = 0;
  c->outcome = walk(c, table, need);
  if (c->outcome == SHORT_TABLE) {
    end_dma(c, d);
    return 0;
  }
  if (c->fault) {
    fail(c, d, c->fault, 0);
    return 0;
  }
  if (c->lba > d->sectors || c->moving > d->sectors - c->lba) {
    if (c->lba < d->sectors) c->lba = d->sectors;
    write_address(d, c->traits, c->lba);
    write_count(d, c->traits, c->remaining);
    fail(c, d, 0x10, 0);
    return 0;
  }
  if (c->outcome == BAD_ADDRESS) {
    c->bm_status |= BM_ERROR;
    fail(c, d, 4, 0);
    return 0;
  }
  table->records[0] = (struct record){
      c->op == WRITE_OP, 1, (double)(int64_t)c->lba * c->unit, need, 0, table->segments, 0, {0}};
  table->requests = 1;
  return 1;
}

/* Success only: the bench has no failing disk. */
static __attribute__((noinline)) uint32_t ide_finish(struct channel *c) {
  struct drive *d = c->drives + c->selected;
  c->event = 0;
  c->lba += c->moving;
  c->remaining -= c->moving;
  write_address(d, c->traits, c->lba);
  write_count(d, c->traits, c->remaining);
  end_dma(c, d);
  return c->event;
}

enum { COMMAND, PRD };

/* Parameters: which bench, address of the channel, guest-physical address of the PRD table. */
static double run(uint8_t *memory, long operations, const long *parameters) {
  memory_base = memory;
  struct channel *c = AT(struct channel, parameters[1]);
  struct table *table = AT(struct table, c->table);
  const struct segment *segments = (const struct segment *)(table->records + table->request_capacity);
  double sum = 0;
  for (long i = 0; i < operations; i++) {
    if (parameters[0] == COMMAND) {
      uint32_t lba = (i * 8) & 0xffff8;
      ide_write(c, BM_TABLE, parameters[2]);
      ide_write(c, BM_COMMAND, 8);
      ide_write(c, BM_STATUS, 0x66);
      ide_write(c, R_DEVICE, 0xe0);
      ide_write(c, R_ERROR, 0);
      ide_write(c, R_COUNT, 8);
      ide_write(c, R_LOW, lba & 0xff);
      ide_write(c, R_MID, lba >> 8 & 0xff);
      ide_write(c, R_HIGH, lba >> 16);
      sum += ide_write(c, R_COMMAND, 0xc8);
      sum += ide_write(c, BM_COMMAND, 9);
      sum += ide_prd(c);
      sum += table->records[0].offset / 512 + segments[0].length;
      sum += ide_finish(c);
      sum += ide_read(c, BM_STATUS);
      ide_write(c, BM_COMMAND, 0);
      sum += ide_read(c, R_CONTROL) + ide_read(c, R_COMMAND);
      ide_write(c, BM_STATUS, 0x64);
    } else {
      sum += ide_prd(c) + table->segments + segments[i & 31].start / 4096;
    }
  }
  return sum;
}
