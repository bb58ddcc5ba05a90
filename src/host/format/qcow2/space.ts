/** Which clusters of a file are in use, a bit each. Gives out those that are not, the lowest first. */
export class Space {
  #bits: Uint8Array;
  /** No cluster below is free. */
  #hint = 0;

  /** @param clusters how many are in use to begin with, from the first on */
  constructor(clusters = 0) {
    this.#bits = new Uint8Array(Math.ceil(clusters / 8) + 64);
    this.#bits.fill(0xff, 0, clusters >>> 3);
    if (clusters % 8 !== 0) this.#bits[clusters >>> 3] = (1 << (clusters % 8)) - 1;
  }

  clone(): Space {
    const copy = new Space();
    copy.#bits = this.#bits.slice();
    return copy;
  }

  has(cluster: number): boolean {
    const byte = Math.floor(cluster / 8);
    return byte < this.#bits.length && ((this.#bits[byte] >> (cluster % 8)) & 1) === 1;
  }

  add(cluster: number): void {
    const byte = Math.floor(cluster / 8);
    if (byte >= this.#bits.length) {
      const more = new Uint8Array(Math.max(byte + 1, this.#bits.length * 2));
      more.set(this.#bits);
      this.#bits = more;
    }
    this.#bits[byte] |= 1 << (cluster % 8);
  }

  addRange(first: number, end: number): void {
    for (let cluster = first; cluster < end; cluster++) this.add(cluster);
  }

  /** The first that is free. */
  get lowest(): number {
    while (this.has(this.#hint)) {
      if (this.#bits[Math.floor(this.#hint / 8)] === 0xff) this.#hint = Math.floor(this.#hint / 8) * 8 + 8;
      else this.#hint++;
    }
    return this.#hint;
  }

  /** The first of `count` free clusters that lie together; they are in use from now on. */
  take(count: number): number {
    let first = this.lowest;
    for (let at = first; at < first + count; at++) if (this.has(at)) first = at + 1;
    this.addRange(first, first + count);
    return first;
  }

  /** In use here and not in `other`, as runs, ascending. */
  *without(other: { get(cluster: number): number }): Generator<{ first: number; count: number }> {
    let first = -1;
    for (let cluster = 0; cluster <= this.#bits.length * 8; cluster++) {
      const gone = this.has(cluster) && other.get(cluster) === 0;
      if (gone && first < 0) first = cluster;
      if (gone || first < 0) continue;
      yield { first, count: cluster - first };
      first = -1;
    }
  }
}

/** Finds room for `bytes` and counts it once: its position. */
export type PlaceFor = (bytes: number) => number;
