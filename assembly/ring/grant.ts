// Grant references to linear addresses (grant_table.h). The guest's table is shared with it: an entry is loaded once,
// when first mapped, and what it said is kept privately until the last mapping is gone.
import { guestRange } from "../memory";
import { GrantEntry, Gtf, XenPage } from "../spec/xen";
import { ActiveGrant, GrantContext } from "../spec/xen-context";

/** Low bits of an ActiveGrant.Page word. */
const enum Active {
  Flags = 0xfff,
}

/**
 * Maps the page behind `ref` for `domain`; answers its linear address, or 0 when the entry does not exist, does not
 * permit that access to that domain, or names a frame outside guest RAM. Each map is undone by one `grantUnmap`.
 */
export function grantMap(grants: usize, domain: u32, ref: u32, write: bool): usize {
  if (ref >= load<u32>(grants, GrantContext.Entries)) return 0;
  const active: usize = load<u32>(grants, GrantContext.Active) + ref * ActiveGrant.Size;
  const entry: usize = load<u32>(grants, GrantContext.Shared) + ref * GrantEntry.Size;
  const pins = load<u32>(active, ActiveGrant.Pins);
  let page: u32;
  if (pins === 0) {
    const value = load<u64>(entry); // the whole entry at once: flags, domain, frame
    const flags = <u32>value & 0xffff;
    if ((flags & (Gtf.TypeMask | Gtf.SubPage)) !== Gtf.PermitAccess) return 0;
    if (<u32>value >>> 16 !== domain) return 0;
    const frame = <u32>(value >>> 32);
    const base = load<u32>(grants, GrantContext.RamBase);
    const size = load<u32>(grants, GrantContext.RamSize);
    const start = guestRange(base, size, frame << XenPage.Shift, frame >>> (32 - XenPage.Shift), XenPage.Size);
    if (start === 0) return 0;
    page = <u32>start | (flags & (Active.Flags & ~(Gtf.Reading | Gtf.Writing)));
  } else {
    page = load<u32>(active, ActiveGrant.Page);
  }
  if (write && (page & Gtf.ReadOnly) !== 0) return 0;
  const used: u32 = page | Gtf.Reading | (write ? Gtf.Writing : 0);
  if (pins === 0 || used !== page) store<u16>(entry, <u16>(used & Active.Flags), GrantEntry.Flags);
  store<u32>(active, used, ActiveGrant.Page);
  store<u32>(active, pins + 1, ActiveGrant.Pins);
  return page & ~Active.Flags;
}

/** Undoes one `grantMap`. With the last one the guest sees its entry unused and may end the access. */
export function grantUnmap(grants: usize, ref: u32): void {
  if (ref >= load<u32>(grants, GrantContext.Entries)) return;
  const active: usize = load<u32>(grants, GrantContext.Active) + ref * ActiveGrant.Size;
  const pins = load<u32>(active, ActiveGrant.Pins);
  if (pins === 0) return;
  store<u32>(active, pins - 1, ActiveGrant.Pins);
  if (pins !== 1) return;
  const entry: usize = load<u32>(grants, GrantContext.Shared) + ref * GrantEntry.Size;
  const flags = load<u16>(entry, GrantEntry.Flags); // the guest may have withdrawn it meanwhile: keep its own bits
  store<u16>(entry, flags & ~(Gtf.Reading | Gtf.Writing), GrantEntry.Flags);
}
