import { BlkConfig, BlkLimit, Feature } from "../../../../assembly/spec/virtio.ts";
import { VqLimit } from "../../../../assembly/spec/virtqueue.ts";
import type { Block } from "../../../core/block.ts";
import type { Width } from "../../../core/machine.ts";

/** The configuration space of a virtio-blk device (VIRTIO 1.2 §5.2.4). Little-endian. */
export class BlkConfigSpace {
  readonly #bytes = new Uint8Array(BlkConfig.Size);
  readonly #view = new DataView(this.#bytes.buffer);

  constructor(block: Block) {
    const view = this.#view;
    this.setCapacity(block.size);
    // A chain is at most this long, with the header and the status byte.
    view.setUint32(BlkConfig.SegMax, VqLimit.Chain - 2, true);
    view.setUint32(BlkConfig.BlockSize, block.sectorSize, true);
    this.writeback = true;
    const unit = block.sectorSize / BlkLimit.Sector;
    const most = 0xffffffff - (0xffffffff % unit);
    view.setUint32(BlkConfig.MaxDiscardSectors, most, true);
    view.setUint32(BlkConfig.MaxDiscardSeg, VqLimit.Ranges, true);
    view.setUint32(BlkConfig.DiscardSectorAlignment, unit, true);
    view.setUint32(BlkConfig.MaxWriteZeroesSectors, most, true);
    view.setUint32(BlkConfig.MaxWriteZeroesSeg, VqLimit.Ranges, true);
    // A format may give up the blocks it zeroes.
    view.setUint8(BlkConfig.WriteZeroesMayUnmap, 1);
  }

  setCapacity(bytes: number): void {
    this.#view.setBigUint64(BlkConfig.Capacity, BigInt(bytes / BlkLimit.Sector), true);
  }

  get writeback(): boolean {
    return this.#bytes[BlkConfig.Writeback] === 1;
  }
  set writeback(on: boolean) {
    this.#bytes[BlkConfig.Writeback] = on ? 1 : 0;
  }

  /** Past its end it reads zeros. */
  read(offset: number, width: Width): number {
    let value = 0;
    for (let i = width - 1; i >= 0; i--) value = value * 256 + (this.#bytes[offset + i] ?? 0);
    return value;
  }
}

/** Feature bits 0–31 and 32–63 that the device offers for this disk. */
export function offeredFeatures(block: Block): [low: number, high: number] {
  const bits = [
    Feature.BlkSegMax,
    Feature.BlkBlockSize,
    Feature.BlkFlush,
    Feature.BlkConfigWce,
    Feature.IndirectDescriptors,
    Feature.EventIndex,
    ...(block.readOnly ? [Feature.BlkReadOnly] : [Feature.BlkDiscard, Feature.BlkWriteZeroes]),
  ];
  return [bits.reduce((word, bit) => word | (1 << bit), 0) >>> 0, 1 << (Feature.Version1 - 32)];
}
