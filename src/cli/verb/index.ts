import type { Verb } from "../verb.ts";
import { lab } from "./lab.ts";

/** Every command, as the help lists them. */
export const VERBS: readonly Verb[] = [lab];
