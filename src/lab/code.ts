import { CODE_LINES } from "./lines.gen.ts";

export interface CodeFile {
  file: string;
  /** Without comments and blanks. */
  lines: number;
}

/** How much code it takes to emulate an IDE disk, and to be a paravirtual disk's back end. */
export interface CodeSize {
  ideLines: number;
  backendLines: number;
  ratio: number;
  ideFiles: readonly CodeFile[];
  backendFiles: readonly CodeFile[];
}

const sum = (files: readonly CodeFile[]) => files.reduce((total, { lines }) => total + lines, 0);
const ideLines = sum(CODE_LINES.ide);
const backendLines = sum(CODE_LINES.backend);

/** Counted when the package was built. */
export const CODE: CodeSize = {
  ideLines,
  backendLines,
  ratio: ideLines / backendLines,
  ideFiles: CODE_LINES.ide,
  backendFiles: CODE_LINES.backend,
};
