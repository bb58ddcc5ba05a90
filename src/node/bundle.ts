import { statSync } from "node:fs";
import { join } from "node:path";

/** The file to be opened for an image: of a Parallels bundle, which is a folder, the descriptor in it. */
export function imageFile(path: string): string {
  if (!statSync(path, { throwIfNoEntry: false })?.isDirectory()) return path;
  const descriptor = join(path, "DiskDescriptor.xml");
  return statSync(descriptor, { throwIfNoEntry: false })?.isFile() ? descriptor : path;
}
