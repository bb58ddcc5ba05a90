// What the Zstandard decoder says when data is damaged, and the memory it works in. Read by both compilers.
//
//   scratch ┌────────────────────────────────────────────────────┐
//           │ result: fault, bytes made so far                   │
//           │ of the frame: last three offsets, its codes        │
//           ├────────────────────────────────────────────────────┤
//           │ sequence codes: literals length, offset, match     │  512, 256 and 512 states of 8 bytes
//           │ the same of those that need not be sent            │  64, 32 and 64
//           │ the code of Huffman weights                        │  64
//           ├────────────────────────────────────────────────────┤
//           │ Huffman code                                       │  2,048 entries of 2 bytes
//           │ weights · chances · symbols of states              │  while a code is made
//           ├────────────────────────────────────────────────────┤
//           │ literals of a block                                │  128 KiB, and what a copy may read past them
//           └────────────────────────────────────────────────────┘ ZstdScratch.Size

export const enum ZstdFault {
  None = 0,
  Ends = 1,
  TooMuch = 2,
  NoFrame = 3,
  ReservedFrame = 4,
  Dictionary = 5,
  Block = 6,
  Literals = 7,
  NoHuffman = 8,
  FewLiterals = 9,
  HuffmanCut = 10,
  HuffmanSymbols = 11,
  HuffmanEmpty = 12,
  HuffmanSum = 13,
  HuffmanStream = 14,
  EntropyBits = 15,
  EntropySymbols = 16,
  EntropyCut = 17,
  NoEndMark = 18,
  Sequences = 19,
  ReservedModes = 20,
  SequenceSymbol = 21,
  NoTable = 22,
  LiteralsUsed = 23,
  Offset = 24,
  SequenceStream = 25,
  ContentSize = 26,
}

/** Bytes from the start of the scratch. */
export const enum ZstdScratch {
  /** ZstdFault, and bytes made when it came up. */
  Fault = 0,
  Done = 4,
  /** u32 each, the newest first. */
  Recent = 8,
  /** Bits of the Huffman code; 0: none was sent. */
  HuffmanBits = 20,
  /** Of each kind of sequence code: address and bits of the one in use; address 0: none was sent. */
  Codes = 24,
  /** Not 0: the codes that need not be sent are there. */
  Ready = 48,
  LiteralsSize = 52,
  LiteralsAt = 56,
  Tables = 64,
  Defaults = 10304,
  Weights = 11584,
  Huffman = 12096,
  WeightList = 16192,
  Chances = 16704,
  Symbols = 17216,
  Literals = 17792,
  Size = 148992,
}

/**
 * Bytes from the start of the memory that the compressor works in: where eight bytes were seen last, what a block's sequences
 * and literals are, and the codes that are made for them.
 */
export const enum ZstdPack {
  /** u32 each, 2^13 of them: where in the input, plus 1. */
  Seen = 0,
  /**
   * u32 each: literals length, match length, offset value; 32,768 and one of them at most, of a block of 128 KiB. Codes of
   * lengths are above their 24 bits.
   */
  Sequences = 32768,
  Literals = 426000,
  /** u32 each. */
  Counts = 557104,
  /** Huffman nodes: u32 counts, u16 parents, u8 depths; leaves in the order of their counts. */
  Nodes = 558128,
  Parents = 560176,
  Depths = 561200,
  Leaves = 561712,
  /** u32 each: a symbol's Huffman code, and its length above 16 bits. */
  HuffmanCodes = 561968,
  Weights = 562992,
  /** i16 each: chances of a state code while it is made; then its symbols. */
  Chances = 563248,
  Symbols = 563760,
  /** Of each kind, 1,536 bytes: 512 next states (u16), 64 times how to leave a symbol (u32, i32). */
  States = 564272,
  /** u32 each: the last two offsets, and bytes of literals. */
  Recent = 570416,
  Size = 570480,
}
