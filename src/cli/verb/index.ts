import type { RawVerb, Verb } from "../verb.ts";
import { boot } from "./boot.ts";
import { img } from "./img/index.ts";
import { lab } from "./lab.ts";

/** Every command, as the help lists them. */
export const VERBS: readonly (Verb | RawVerb)[] = [lab, img, boot];
