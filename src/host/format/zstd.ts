import { ZstdFault } from "../../../assembly/spec/zstd.ts";
import { UnpackBuffers } from "../../wasm/unpack.ts";

// Zstandard frames (RFC 8878): the core decodes them (assembly/packed/zstd.ts), and says what is wrong by number.

const WORDS: Record<Exclude<ZstdFault, ZstdFault.None | ZstdFault.Ends>, string> = {
  [ZstdFault.TooMuch]: "there is more data than there should be",
  [ZstdFault.NoFrame]: "there is no zstd frame",
  [ZstdFault.ReservedFrame]: "a reserved bit of the frame header is set",
  [ZstdFault.Dictionary]: "the frame needs a dictionary",
  [ZstdFault.Block]: "a block of unknown type or size",
  [ZstdFault.Literals]: "literals are cut off",
  [ZstdFault.NoHuffman]: "literals use a Huffman table that was never sent",
  [ZstdFault.FewLiterals]: "four streams of too few literals",
  [ZstdFault.HuffmanCut]: "a Huffman table is cut off",
  [ZstdFault.HuffmanSymbols]: "a Huffman table has too many symbols",
  [ZstdFault.HuffmanEmpty]: "a Huffman table is empty",
  [ZstdFault.HuffmanSum]: "a Huffman table does not add up",
  [ZstdFault.HuffmanStream]: "a Huffman stream has the wrong length",
  [ZstdFault.EntropyBits]: "an entropy table has too many bits",
  [ZstdFault.EntropySymbols]: "an entropy table has too many symbols",
  [ZstdFault.EntropyCut]: "an entropy table is cut off",
  [ZstdFault.NoEndMark]: "a bit stream has no end mark",
  [ZstdFault.Sequences]: "sequences are cut off",
  [ZstdFault.ReservedModes]: "reserved bits of the sequence modes are set",
  [ZstdFault.SequenceSymbol]: "a sequence symbol is out of range",
  [ZstdFault.NoTable]: "sequences use a table that was never sent",
  [ZstdFault.LiteralsUsed]: "more literals are used than there are",
  [ZstdFault.Offset]: "an offset reaches before the start",
  [ZstdFault.SequenceStream]: "a sequence stream has the wrong length",
  [ZstdFault.ContentSize]: "the frame holds not as much as it says",
};

/** Exactly `size` bytes out of an area's frames, into a slot. @throws RangeError when they are damaged */
export function unzstdHere(buffers: UnpackBuffers, slot: number, packed: Uint8Array, size: number): void {
  const { fault, done } = buffers.unzstd(packed, slot, size);
  if (fault === ZstdFault.None) return;
  throw new RangeError(fault === ZstdFault.Ends ? `the data ends after ${done} bytes of ${size}` : WORDS[fault]);
}

/**
 * Exactly `size` bytes out of frames that lie anywhere; what follows them is left alone.
 * @throws RangeError when they are damaged
 */
export function unzstd(packed: Uint8Array, size: number): Uint8Array {
  const buffers = new UnpackBuffers({ areas: 1, areaBytes: packed.length, slots: 1, slotBytes: size });
  buffers.areas[0].set(packed);
  unzstdHere(buffers, 0, buffers.areas[0], size);
  return buffers.slots[0];
}
