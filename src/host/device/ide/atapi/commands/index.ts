import type { PacketCommand } from "../command.ts";
import { AUDIO } from "./audio.ts";
import { CONFIGURATION } from "./configuration.ts";
import { DISC_INFO } from "./disc-info.ts";
import { DVD } from "./dvd.ts";
import { EVENT } from "./event.ts";
import { INQUIRY } from "./inquiry.ts";
import { MODE } from "./mode.ts";
import { READ } from "./read.ts";
import { READ_CD } from "./read-cd.ts";
import { STATUS } from "./status.ts";
import { TOC } from "./toc.ts";
import { TRAY } from "./tray.ts";

const ALL = [STATUS, INQUIRY, MODE, TRAY, READ, READ_CD, TOC, DISC_INFO, AUDIO, CONFIGURATION, EVENT, DVD].flat();

/** Every packet command by its operation code; what is not here is ILLEGAL REQUEST. */
export const COMMANDS: ReadonlyMap<number, PacketCommand> = new Map(ALL.map((each) => [each.code, each]));
