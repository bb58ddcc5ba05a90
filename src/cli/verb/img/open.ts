import { asParavaneError, ParavaneError } from "../../../core/error.ts";
import type { Disk } from "../../../host/block/open.ts";
import { type OpenImageOptions, openImage } from "./files.ts";
import { type Given, lastOf } from "./options.ts";
import { Secrets } from "./secrets.ts";

/** Opens an image that the command line names. @throws ParavaneError that says, as qemu-img does, what could not be opened */
export async function openNamed(path: string, options: OpenImageOptions = {}): Promise<Disk> {
  try {
    return await openImage(path, options);
  } catch (thrown) {
    throw notOpened(path, thrown);
  }
}

/** Options for opening an image: its format by the option of that name, and the folders that it may pull files in from. */
export function openingOf(given: Given, format = "f"): OpenImageOptions {
  const name = lastOf(given, format);
  const secrets = new Secrets(given);
  return {
    ...(name !== undefined && { format: name }),
    passphraseFor: (path) => secrets.passphrase(given.keySecrets?.get(path)),
    parentPassphrasesFor: (path) =>
      given.parentSecrets?.get(path)?.map((id) => (id === undefined ? undefined : secrets.passphrase(id))),
    memberOf: (path) => given.members?.get(path),
    parentOf: (path) => given.parents?.get(path),
    allow: given.values.get("allow"),
  };
}

/** What stood in the way of opening `path`. */
export function notOpened(path: string, thrown: unknown): ParavaneError {
  const { code, message, context, hint } = asParavaneError(thrown);
  const { file = path, offset } = context;
  const missing = code === "NOT_FOUND" && /^ENOENT/.test(message);
  const what = missing ? `Could not open '${file}': No such file or directory` : message;
  const at = offset === undefined || message.includes(String(offset)) ? "" : ` (byte ${offset})`;
  const { file: _, offset: __, ...rest } = context;
  return new ParavaneError(code, `Could not open '${path}': ${what}${at}`, rest, { cause: thrown, hint });
}

/** Closes the disk after the work, whatever becomes of that. */
export async function withDisk<T>(opening: Promise<Disk>, work: (disk: Disk) => Promise<T>): Promise<T> {
  const disk = await opening;
  try {
    return await work(disk);
  } finally {
    await disk.close();
  }
}
