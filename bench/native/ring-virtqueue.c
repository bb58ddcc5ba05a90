/* assembly/ring/virtqueue.ts and virtio-blk.ts in C, over the same memory (assembly/spec/virtqueue.ts). Reads and writes
 * only: of the other requests the bench uses none, and an untaken branch more would not show. */
#include "harness.h"
#include <assert.h>
#include <stdbool.h>
#include <stddef.h>

enum { NEXT = 1, WRITE = 2, INDIRECT = 4, CHAIN = 256, EVENT_INDEX = 2, HEADER = 16, SECTOR = 512 };
enum { FAULT_INDEX = 1, FAULT_HEAD, FAULT_BUSY, FAULT_NEXT, FAULT_LOOP, FAULT_INDIRECT, FAULT_LENGTH, FAULT_RANGE,
       FAULT_TOO_LONG, FAULT_NO_STATUS };
enum { REFUSE_ADDRESS = 1, REFUSE_EMPTY, REFUSE_ORDER, REFUSE_NESTED, REFUSE_HEADER, REFUSE_TYPE, REFUSE_LENGTH,
       REFUSE_RANGE, REFUSE_READ_ONLY };

struct completion {
  uint32_t head, status;
};
struct slot {
  uint32_t parts, status, status_address, length;
};
struct segment {
  uint32_t start, length;
};
struct device {
  uint32_t ram_base, ram_size, queue_size, descriptors, available, used, features, table;
  uint32_t last_available, used_index, fault, stamp, first_stamp;
  uint32_t chain_count, chain_readable, chain_last;
  uint64_t readable_bytes, writable_bytes;
  uint32_t refusal, block_sectors;
  double capacity;
  uint32_t abilities;
  uint8_t gathered[16];
  struct completion completions[288];
  struct slot slots[256];
  uint32_t direct_stamps[256], indirect_stamps[256];
  struct segment chain[CHAIN];
};
static_assert(offsetof(struct device, completions) == 116, "VqDevice.Completions");
static_assert(offsetof(struct device, slots) == 2420, "VqDevice.Slots");
static_assert(offsetof(struct device, chain) == 8564, "VqDevice.Chain");
struct record {
  uint32_t op, status;
  double offset, length;
  uint32_t first, segments, tag, private[5];
};
static_assert(sizeof(struct record) == 56, "RequestField.Size");
struct table {
  uint32_t request_capacity, segment_capacity, requests, segments;
  struct record records[];
};
struct descriptor {
  uint32_t low, high, length;
  uint16_t flags, next;
};
struct available {
  uint16_t flags, index, ring[];
};
struct used {
  uint16_t flags, index;
  struct {
    uint32_t id, length;
  } ring[];
};

static uint8_t *memory_base;
#define AT(type, address) ((type *)(memory_base + (address)))

static uint32_t guest_range(uint32_t base, uint32_t size, uint32_t low, uint32_t high, uint32_t length) {
  if (high != 0 || low > size || length > size - low) return 0;
  return base + low;
}

static struct segment *segments_of(struct table *table) {
  return (struct segment *)(table->records + table->request_capacity);
}

static uint32_t walk(struct device *device, uint32_t head) {
  uint32_t base = device->ram_base, size = device->ram_size, stamp = device->stamp++;
  const volatile struct descriptor *table = AT(struct descriptor, device->descriptors);
  uint32_t limit = device->queue_size, oldest = device->first_stamp;
  uint32_t *stamps = device->direct_stamps;
  bool indirect = false, writing = false;
  uint32_t seen = 0, count = 0, readable = 0, last = 0, refusal = 0;
  uint64_t readable_bytes = 0, writable_bytes = 0;
  for (uint32_t index = head;;) {
    if (stamps[index] >= oldest) return FAULT_LOOP;
    stamps[index] = stamp;
    const volatile struct descriptor *at = table + index;
    uint32_t low = at->low, high = at->high, length = at->length, flags = at->flags;
    if (flags & INDIRECT && !indirect) {
      if (!(device->features & 1) || flags & NEXT) return FAULT_INDIRECT;
      limit = length / 16;
      if (limit == 0 || limit > CHAIN || length % 16) return FAULT_LENGTH;
      uint32_t start = guest_range(base, size, low, high, length);
      if (start == 0) return FAULT_RANGE;
      table = AT(struct descriptor, start);
      stamps = device->indirect_stamps;
      oldest = stamp;
      indirect = true;
      index = 0;
      continue;
    }
    if (++seen > CHAIN) return FAULT_TOO_LONG;
    if (flags & INDIRECT) {
      refusal = REFUSE_NESTED;
    } else {
      uint32_t start = length ? guest_range(base, size, low, high, length) : 0;
      if (start == 0) refusal = length ? REFUSE_ADDRESS : REFUSE_EMPTY;
      if (flags & WRITE) {
        writing = true;
        writable_bytes += length;
        last = start == 0 ? 0 : start + length - 1;
      } else {
        if (writing) refusal = REFUSE_ORDER;
        readable_bytes += length;
        readable++;
      }
      device->chain[count++] = (struct segment){start, length};
    }
    if (!(flags & NEXT)) break;
    index = at->next;
    if (index >= limit) return FAULT_NEXT;
  }
  if (last == 0) return FAULT_NO_STATUS;
  device->chain_count = count;
  device->chain_readable = readable;
  device->readable_bytes = readable_bytes;
  device->writable_bytes = writable_bytes;
  device->chain_last = last;
  device->refusal = refusal;
  return 0;
}

static struct record *push_request(struct table *table, uint32_t op, uint32_t status, double offset, double length,
                                   uint32_t first, uint32_t tag) {
  struct record *record = table->records + table->requests++;
  *record = (struct record){op, status, offset, length, first, table->segments - first, tag, {0}};
  return record;
}

static void push_data(struct device *device, struct table *table, uint32_t index, uint32_t skip, uint64_t left) {
  struct segment *to = segments_of(table);
  for (; left; index++) {
    uint32_t bytes = device->chain[index].length;
    if (skip >= bytes) {
      skip -= bytes;
      continue;
    }
    uint32_t take = left < bytes - skip ? left : bytes - skip;
    to[table->segments++] = (struct segment){device->chain[index].start + skip, take};
    left -= take;
    skip = 0;
  }
}

static uint32_t request(struct device *device, struct table *table, uint32_t head) {
  uint64_t readable = device->readable_bytes;
  if (readable < HEADER) return REFUSE_HEADER;
  const volatile uint32_t *header = AT(uint32_t, device->chain[0].start);
  if (device->chain[0].length < HEADER) return REFUSE_HEADER; /* the bench's headers are in one piece */
  uint32_t type = header[0], first = table->segments;
  if (type > 1) return REFUSE_TYPE;
  bool write = type == 1;
  if (write && !(device->abilities & 1)) return REFUSE_READ_ONLY;
  uint64_t length = write ? readable - HEADER : device->writable_bytes - 1;
  uint64_t sector = *(const volatile uint64_t *)(header + 2), unit = device->block_sectors;
  if (length % (unit * SECTOR) || sector % unit) return REFUSE_LENGTH;
  double offset = (double)sector * SECTOR;
  if (offset + length > device->capacity) return REFUSE_RANGE;
  push_data(device, table, write ? 0 : device->chain_readable, write ? HEADER : 0, length);
  push_request(table, type, 1, offset, length, first, head);
  return 0;
}

static void parse(struct device *device, struct table *table, uint32_t head) {
  uint32_t before = table->requests;
  struct slot *slot = device->slots + head;
  slot->status_address = device->chain_last;
  slot->status = 0;
  uint64_t length = device->writable_bytes < 0xffffffff ? device->writable_bytes : 0xffffffff;
  uint32_t refusal = device->refusal;
  if (!refusal) refusal = request(device, table, head);
  if (refusal) {
    table->requests = before;
    push_request(table, 2, 7, 0, 0, table->segments, head)->private[0] = refusal;
    length = 1;
  }
  slot->length = length;
  slot->parts = table->requests - before;
}

static __attribute__((noinline)) uint32_t consume(struct device *device) {
  struct table *table = AT(struct table, device->table);
  table->requests = table->segments = 0;
  if (device->fault) return 0;
  uint32_t size = device->queue_size, next = device->last_available;
  const volatile struct available *available = AT(struct available, device->available);
  uint32_t index = available->index;
  if (((index - next) & 0xffff) > size) {
    device->fault = FAULT_INDEX;
    return 0;
  }
  device->first_stamp = ++device->stamp;
  while (next != index && table->requests + 32 <= table->request_capacity &&
         table->segments + CHAIN <= table->segment_capacity) {
    uint32_t head = available->ring[next & (size - 1)];
    next = (next + 1) & 0xffff;
    uint32_t fault = FAULT_HEAD;
    if (head < size) fault = device->slots[head].parts ? FAULT_BUSY : walk(device, head);
    if (fault) {
      device->fault = fault;
      break;
    }
    parse(device, table, head);
  }
  device->last_available = next;
  if (device->features & EVENT_INDEX) {
    volatile struct used *used = AT(struct used, device->used);
    *(volatile uint16_t *)&used->ring[size] = next;
  }
  return table->requests;
}

static __attribute__((noinline)) uint32_t complete(struct device *device, uint32_t count) {
  uint32_t size = device->queue_size, before = device->used_index, index = before;
  volatile struct used *used = AT(struct used, device->used);
  for (uint32_t i = 0; i < count; i++) {
    uint32_t head = device->completions[i].head;
    struct slot *slot = device->slots + head;
    if (slot->status == 0) slot->status = device->completions[i].status;
    if (--slot->parts) continue;
    *AT(uint8_t, slot->status_address) = slot->status == 0 ? 0 : slot->status == 6 ? 2 : 1;
    used->ring[index & (size - 1)].id = head;
    used->ring[index & (size - 1)].length = slot->length;
    index = (index + 1) & 0xffff;
  }
  const volatile struct available *available = AT(struct available, device->available);
  uint32_t answer = 0;
  if (index != before) {
    device->used_index = index;
    used->index = index;
    if (device->features & EVENT_INDEX) {
      uint32_t event = available->ring[size];
      if (((index - event - 1) & 0xffff) < ((index - before) & 0xffff)) answer = 1;
    } else if (!(available->flags & 1)) {
      answer = 1;
    }
  }
  if (!device->fault && available->index != device->last_available) answer |= 2;
  return answer;
}

/* Parameters: addresses of the device's context and of the heads to make available; their number. */
static double run(uint8_t *memory, long operations, const long *parameters) {
  memory_base = memory;
  struct device *device = AT(struct device, parameters[0]);
  const uint16_t *heads = AT(uint16_t, parameters[1]);
  uint32_t count = parameters[2], mask = device->queue_size - 1;
  struct available *available = AT(struct available, device->available);
  struct table *table = AT(struct table, device->table);
  double sum = 0;
  for (long done = 0; done < operations; done += count) {
    uint32_t index = available->index;
    for (uint32_t i = 0; i < count; i++) available->ring[(index + i) & mask] = heads[i];
    available->ring[mask + 1] = index; /* used_event: an interrupt, please */
    available->index = index + count;
    uint32_t found = consume(device);
    const struct segment *segments = segments_of(table);
    for (uint32_t i = 0; i < found; i++) {
      const struct record *record = table->records + i;
      sum += record->offset / 512 + (segments[record->first].start >> 9);
      device->completions[i] = (struct completion){record->tag, 0};
    }
    sum += complete(device, found);
  }
  return sum;
}
