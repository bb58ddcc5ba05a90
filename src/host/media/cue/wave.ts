import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import { SegmentList } from "../../../core/segments.ts";
import type { Store } from "../../../core/store.ts";

const CHUNK_HEADER = 8;
/** A file with more chunks before its samples is broken, or made to keep us busy. */
const MAX_CHUNKS = 1000;

function* bytesAt(store: Store, position: number, length: number): Flow<DataView> {
  const bytes = new Uint8Array(length);
  if (position + length > store.size) {
    throw new ParavaneError("CORRUPT", "the WAVE file is cut short", { file: store.name, offset: position });
  }
  yield* wait(store.readv(position, bytes, SegmentList.of(0, length)));
  return new DataView(bytes.buffer);
}

function tag(view: DataView, at: number): string {
  return String.fromCharCode(...[0, 1, 2, 3].map((i) => view.getUint8(at + i)));
}

/**
 * Where the samples of a WAVE file are (Microsoft Multimedia Programming Interface 1.0, RIFF WAVE): bytes.
 * @throws ParavaneError CORRUPT, UNSUPPORTED (not 16-bit stereo at 44,100 Hz)
 */
export function* findSamples(store: Store): Flow<{ position: number; length: number }> {
  const riff = yield* bytesAt(store, 0, 12);
  if (tag(riff, 0) !== "RIFF" || tag(riff, 8) !== "WAVE") {
    throw new ParavaneError("CORRUPT", "the file is no RIFF WAVE", { file: store.name, offset: 0 });
  }
  let suits = false;
  let position = 12;
  for (let i = 0; i < MAX_CHUNKS; i++) {
    const header = yield* bytesAt(store, position, CHUNK_HEADER);
    const length = header.getUint32(4, true);
    position += CHUNK_HEADER;
    if (tag(header, 0) === "fmt ") {
      const format = yield* bytesAt(store, position, 16);
      // PCM or extensible, two channels of 16 bits.
      const kind = format.getUint16(0, true);
      suits = (kind === 1 || kind === 0xfffe) && format.getUint16(2, true) === 2;
      suits &&= format.getUint32(4, true) === 44100 && format.getUint16(14, true) === 16;
    } else if (tag(header, 0) === "data") {
      if (!suits) {
        const hint = "Convert it to 16-bit stereo PCM at 44,100 Hz";
        throw new ParavaneError("UNSUPPORTED", "the samples are not those of a CD", { file: store.name }, { hint });
      }
      return { position, length: Math.min(length, store.size - position) };
    }
    // Chunks start at even bytes.
    position += length + (length & 1);
  }
  throw new ParavaneError("CORRUPT", "the WAVE file has no samples", { file: store.name });
}
