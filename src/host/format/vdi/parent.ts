import type { NewParent } from "../../../core/format.ts";
import { NO_GUID } from "../guid.ts";
import { invalid } from "../io.ts";

const UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}";
const IDENTITY = new RegExp(`^(${UUID})/(${UUID})$`);

/**
 * What a header notes of a parent: nothing but UUIDs. When its content is about to change, that of the content is left out,
 * which fits before and after. @throws ParavaneError INVALID
 */
export function parentUuids({ identity, nextIdentity }: NewParent): { created: string; modified: string } {
  const [, created, modified] = IDENTITY.exec(identity ?? "") ?? [];
  if (created === undefined || created === NO_GUID) {
    const hint = "The parent of a VDI is a VDI; open it, and give its identity";
    throw invalid(`"${identity ?? ""}" is no identity of a VDI`, hint);
  }
  return { created, modified: nextIdentity === undefined || nextIdentity === identity ? modified : NO_GUID };
}
