import { HostStatus, PvscsiConfigPage, PvscsiControllerPage } from "../../../../assembly/spec/pvscsi.ts";

/** Targets that a driver looks for when it asks; more when there are more. */
const TARGETS = 16;

/**
 * The controller page, which says how many targets there may be; null for any other page, of which the header says nothing.
 * @param targets one past the highest target number in use
 */
export function configPage(pageAddress: number, page: number, targets: number): Uint8Array | null {
  if (page !== PvscsiConfigPage.Controller || pageAddress !== PvscsiConfigPage.ControllerAddress) return null;
  const bytes = new Uint8Array(PvscsiControllerPage.Size);
  const view = new DataView(bytes.buffer);
  view.setUint32(PvscsiControllerPage.PageNumber, page, true);
  view.setUint16(PvscsiControllerPage.Words, bytes.length / 4, true);
  view.setUint16(PvscsiControllerPage.HostStatus, HostStatus.Success, true);
  const text = (at: number, value: string) => {
    for (let i = 0; i < value.length; i++) view.setUint16(at + 2 * i, value.charCodeAt(i), true);
  };
  text(PvscsiControllerPage.Manufacturer, "Paravane");
  text(PvscsiControllerPage.Hardware, "PVSCSI");
  view.setUint32(PvscsiControllerPage.Phys, Math.max(TARGETS, targets), true);
  return bytes;
}
