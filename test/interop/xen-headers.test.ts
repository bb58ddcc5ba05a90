import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import {
  Blkif32,
  Blkif64,
  BlkifBody,
  BlkifDiscard,
  BlkifHeader,
  BlkifIndirect,
  BlkifLimit,
  BlkifOp,
  BlkifResponse,
  BlkifSegment,
  BlkifStatus,
  GrantEntry,
  GrantLimit,
  Gtf,
  Hypercall,
  Sring,
  Vdisk,
  XenbusState,
  XenPage,
} from "../../assembly/spec/xen.ts";
import { PORTS } from "../../src/hypervisor/xen/event-channel.ts";
import { found, peerTest } from "../support/peers.ts";

/** C expression → what our tables say; every offset, size and constant of the Xen interface that we use. */
function expected(abi: { Body: number; Request: number; Response: number }): Record<string, number> {
  const at = (field: number) => abi.Body + field;
  const rings = Object.fromEntries(
    [0, 1, 2, 3, 4].map((order) => [`__CONST_RING_SIZE(blkif, ${4096 << order})`, 32 << order]),
  );
  return {
    ...rings,
    "offsetof(struct blkif_sring, req_prod)": Sring.ReqProd,
    "offsetof(struct blkif_sring, req_event)": Sring.ReqEvent,
    "offsetof(struct blkif_sring, rsp_prod)": Sring.RspProd,
    "offsetof(struct blkif_sring, rsp_event)": Sring.RspEvent,
    "offsetof(struct blkif_sring, ring)": Sring.Entries,
    "sizeof(union blkif_sring_entry)": abi.Request,
    "1 << XEN_PAGE_SHIFT": XenPage.Size,
    XEN_PAGE_SHIFT: XenPage.Shift,

    "sizeof(struct blkif_request)": abi.Request,
    "offsetof(struct blkif_request, operation)": BlkifHeader.Operation,
    "offsetof(struct blkif_request, nr_segments)": BlkifHeader.NrSegments,
    "offsetof(struct blkif_request, handle)": BlkifHeader.Handle,
    "offsetof(struct blkif_request, id)": at(BlkifBody.Id),
    "offsetof(struct blkif_request, sector_number)": at(BlkifBody.Sector),
    "offsetof(struct blkif_request, seg)": at(BlkifBody.Segments),

    "offsetof(struct blkif_request_discard, operation)": BlkifHeader.Operation,
    "offsetof(struct blkif_request_discard, flag)": BlkifHeader.NrSegments,
    "offsetof(struct blkif_request_discard, handle)": BlkifHeader.Handle,
    "offsetof(struct blkif_request_discard, id)": at(BlkifBody.Id),
    "offsetof(struct blkif_request_discard, sector_number)": at(BlkifBody.Sector),
    "offsetof(struct blkif_request_discard, nr_sectors)": at(BlkifDiscard.Sectors),

    "offsetof(struct blkif_request_indirect, operation)": BlkifHeader.Operation,
    "offsetof(struct blkif_request_indirect, indirect_op)": BlkifHeader.NrSegments,
    "offsetof(struct blkif_request_indirect, nr_segments)": BlkifHeader.Handle,
    "offsetof(struct blkif_request_indirect, id)": at(BlkifBody.Id),
    "offsetof(struct blkif_request_indirect, sector_number)": at(BlkifBody.Sector),
    "offsetof(struct blkif_request_indirect, handle)": at(BlkifIndirect.Handle),
    "offsetof(struct blkif_request_indirect, indirect_grefs)": at(BlkifIndirect.Refs),

    "sizeof(struct blkif_request_segment)": BlkifSegment.Size,
    "offsetof(struct blkif_request_segment, gref)": BlkifSegment.Ref,
    "offsetof(struct blkif_request_segment, first_sect)": BlkifSegment.FirstSector,
    "offsetof(struct blkif_request_segment, last_sect)": BlkifSegment.LastSector,

    "sizeof(struct blkif_response)": abi.Response,
    "offsetof(struct blkif_response, id)": BlkifResponse.Id,
    "offsetof(struct blkif_response, operation)": BlkifResponse.Operation,
    "offsetof(struct blkif_response, status)": BlkifResponse.Status,

    BLKIF_OP_READ: BlkifOp.Read,
    BLKIF_OP_WRITE: BlkifOp.Write,
    BLKIF_OP_WRITE_BARRIER: BlkifOp.WriteBarrier,
    BLKIF_OP_FLUSH_DISKCACHE: BlkifOp.FlushDiskcache,
    BLKIF_OP_DISCARD: BlkifOp.Discard,
    BLKIF_OP_INDIRECT: BlkifOp.Indirect,
    BLKIF_RSP_OKAY: BlkifStatus.Okay,
    BLKIF_RSP_ERROR: BlkifStatus.Error,
    BLKIF_RSP_EOPNOTSUPP: BlkifStatus.NotSupported,
    BLKIF_MAX_SEGMENTS_PER_REQUEST: BlkifLimit.Segments,
    BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST: BlkifLimit.IndirectPages,
    "4096 / sizeof(struct blkif_request_segment)": BlkifLimit.SegmentsPerPage,
    VDISK_CDROM: Vdisk.Cdrom,
    VDISK_REMOVABLE: Vdisk.Removable,
    VDISK_READONLY: Vdisk.ReadOnly,

    "sizeof(struct grant_entry_v1)": GrantEntry.Size,
    "offsetof(struct grant_entry_v1, flags)": GrantEntry.Flags,
    "offsetof(struct grant_entry_v1, domid)": GrantEntry.Domain,
    "offsetof(struct grant_entry_v1, frame)": GrantEntry.Frame,
    GTF_invalid: Gtf.Invalid,
    GTF_permit_access: Gtf.PermitAccess,
    GTF_type_mask: Gtf.TypeMask,
    GTF_readonly: Gtf.ReadOnly,
    GTF_reading: Gtf.Reading,
    GTF_writing: Gtf.Writing,
    GTF_sub_page: Gtf.SubPage,
    GNTTAB_NR_RESERVED_ENTRIES: GrantLimit.Reserved,

    XenbusStateUnknown: XenbusState.Unknown,
    XenbusStateInitialising: XenbusState.Initialising,
    XenbusStateInitWait: XenbusState.InitWait,
    XenbusStateInitialised: XenbusState.Initialised,
    XenbusStateConnected: XenbusState.Connected,
    XenbusStateClosing: XenbusState.Closing,
    XenbusStateClosed: XenbusState.Closed,

    __HYPERVISOR_grant_table_op: Hypercall.GrantTableOp,
    __HYPERVISOR_event_channel_op: Hypercall.EventChannelOp,
  };
}

const HEADERS = `
#include <stdint.h>
#include <stddef.h>
#define __XEN_INTERFACE_VERSION__ 0x00040d00
#include <xen/xen.h>
#include <xen/event_channel.h>
#include <xen/io/blkif.h>
#include <xen/io/protocols.h>
#include <xen/io/xenbus.h>
`;

/** Compiles in a folder of its own; `compile` gets the path without suffix. */
function inFolder<T>(source: string, work: (path: string) => T): T {
  const folder = mkdtempSync(join(tmpdir(), "xen-headers-"));
  try {
    writeFileSync(join(folder, "layout.c"), source);
    return work(join(folder, "layout"));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** What a program compiled against the headers prints: one number a line. */
function printed(expressions: string[]): string[] {
  const prints = expressions.map((expression) => `  printf("%ld\\n", (long)(${expression}));`);
  const source = `#include <stdio.h>\n${HEADERS}\nint main(void) {\n${prints.join("\n")}\n  puts(XEN_IO_PROTO_ABI_X86_64);\n  puts(XEN_IO_PROTO_ABI_X86_32);\n  return 0;\n}\n`;
  return inFolder(source, (path) => {
    execFileSync("gcc", ["-o", path, `${path}.c`]);
    return execFileSync(path, { encoding: "utf8" }).trim().split("\n");
  });
}

/**
 * The same under the i386 ABI. The constants are read from the compiler's assembly output, so that no 32-bit C library is
 * needed to run anything.
 */
function emitted32(expressions: string[]): string[] {
  const marks = expressions.map((expression) => `  __asm__ volatile("\\n@= %c0" :: "i"((long)(${expression})));`);
  return inFolder(`${HEADERS}\nvoid f(void) {\n${marks.join("\n")}\n}\n`, (path) => {
    const text = execFileSync("gcc", ["-m32", "-ffreestanding", "-S", "-o", "-", `${path}.c`], { encoding: "utf8" });
    return [...text.matchAll(/^@= (-?\d+)$/gm)].map((match) => match[1]);
  });
}

const headers = "/usr/include/xen/io/blkif.h";
const peer = found("gcc") ? headers : "gcc";

peerTest(peer, "gcc and libxen-dev", "x86_64 layouts equal what a C program prints", () => {
  const ours = expected({ Body: Blkif64.Body, Request: Blkif64.Request, Response: Blkif64.Response });
  const lines = printed([...Object.keys(ours), "EVTCHN_2L_NR_CHANNELS"]);
  expect(Object.fromEntries(Object.keys(ours).map((key, i) => [key, Number(lines[i])]))).toEqual(ours);
  expect(lines.slice(-2)).toEqual(["x86_64-abi", "x86_32-abi"]);
  expect(Number(lines.at(-3))).toBeGreaterThanOrEqual(PORTS);
});

peerTest(peer, "gcc and libxen-dev", "x86_32 layouts equal what a C compiler lays out", () => {
  const ours = expected({ Body: Blkif32.Body, Request: Blkif32.Request, Response: Blkif32.Response });
  const lines = emitted32([...Object.keys(ours), "EVTCHN_2L_NR_CHANNELS"]);
  expect(Object.fromEntries(Object.keys(ours).map((key, i) => [key, Number(lines[i])]))).toEqual(ours);
  expect(Number(lines.at(-1))).toBe(PORTS);
});
