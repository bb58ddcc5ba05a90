import { alignUp } from "../io.ts";
import { SECTOR } from "./footer.ts";

export { copy, corrupt, fill, read, write } from "../io.ts";

/** Up to whole sectors. */
export const align = (position: number): number => alignUp(position, SECTOR);
