import { Vdisk, XenbusState } from "../../../assembly/spec/xen.ts";
import { BlkbackFeature } from "../../../assembly/spec/xen-context.ts";
import type { Block } from "../../core/block.ts";
import { disposable } from "../../core/dispose.ts";
import { asParavaneError, ParavaneError } from "../../core/error.ts";
import { type Flow, type Later, run, wait } from "../../core/flow.ts";
import type { Device, Release } from "../../core/machine.ts";
import { HOST_DOMAIN, type Hypervisor } from "../../hypervisor/hypervisor.ts";
import type { XenDomain, XenMachine } from "../../hypervisor/xen/domain.ts";
import { XenbusEnd } from "../../hypervisor/xen/xenbus.ts";
import type { XenstoreClient } from "../../hypervisor/xen/xenstore.ts";
import { BlkbackRing } from "./blkback-ring.ts";

/** Virtual device number of xvda (docs/misc/vbd-interface.txt: major 202, minor 0). */
const XVDA = 202 << 8;

export interface BlkbackOptions {
  /** Virtual device number; default 51712, xvda. */
  device?: number;
  /** Largest ring offered: 2^order pages; default 4, at most 4. */
  maxRingPageOrder?: number;
  /** Segments offered in an indirect request; default 256, at most 256; 0 offers none. */
  maxIndirectSegments?: number;
  /** Default true, each. */
  flush?: boolean;
  barrier?: boolean;
  discard?: boolean;
}

/** Xen's block back end for one disk of one guest. */
export interface Blkback extends Device {
  readonly device: number;
  readonly state: XenbusState;
  /** Why the device was closed on the guest, if it was. */
  readonly error: ParavaneError | null;
}

/**
 * Offers `block` to the guest of `machine` as a Xen virtual disk: creates both ends' directories in the xenstore, as a
 * toolstack does, and serves whatever front end connects, again after each disconnect.
 * @throws ParavaneError EXISTS when the device number is taken, INVALID for sectors that a ring cannot express
 */
export function attachBlkback(
  hypervisor: Hypervisor,
  machine: XenMachine,
  block: Block,
  options: BlkbackOptions = {},
): Blkback {
  return new BlkbackDevice(hypervisor, hypervisor.domain(machine), block, options);
}

class BlkbackDevice implements Blkback {
  declare readonly [Symbol.asyncDispose]: () => Promise<void>;
  readonly device: number;
  error: ParavaneError | null = null;
  readonly #hypervisor: Hypervisor;
  readonly #domain: XenDomain;
  readonly #block: Block;
  readonly #options: Required<BlkbackOptions>;
  readonly #bus: XenbusEnd<XenstoreClient>;
  readonly #releases: Release[] = [];
  #ring: BlkbackRing | null = null;
  #port = 0;
  /** The front end's state is looked at again when the ring has drained. */
  #draining: Promise<void> | null = null;
  /** Rings of guests that were reset, their last requests still at the block. */
  #abandoned: Promise<void>[] = [];
  #closed = false;

  constructor(hypervisor: Hypervisor, domain: XenDomain, block: Block, options: BlkbackOptions) {
    this.device = options.device ?? XVDA;
    this.#hypervisor = hypervisor;
    this.#domain = domain;
    this.#block = block;
    this.#options = {
      device: this.device,
      maxRingPageOrder: Math.min(options.maxRingPageOrder ?? 4, 4),
      maxIndirectSegments: Math.min(options.maxIndirectSegments ?? 256, 256),
      flush: options.flush ?? true,
      barrier: options.barrier ?? true,
      discard: options.discard ?? true,
    };
    const { sectorSize } = block;
    if (sectorSize < 512 || sectorSize > 4096 || (sectorSize & (sectorSize - 1)) !== 0) {
      throw new ParavaneError("INVALID", `a Xen ring cannot express sectors of ${sectorSize} bytes`, { sectorSize });
    }
    const store = hypervisor.xenstore.as(HOST_DOMAIN);
    const front = `/local/domain/${domain.id}/device/vbd/${this.device}`;
    const back = `/local/domain/${HOST_DOMAIN}/backend/vbd/${domain.id}/${this.device}`;
    if (hypervisor.xenstore.exists(back)) {
      throw new ParavaneError("EXISTS", `domain ${domain.id} has a virtual device ${this.device} already`);
    }
    this.#bus = new XenbusEnd(store, back, front);
    store.transaction(() => this.#createDirectories());
    this.#bus.switchTo(XenbusState.InitWait);
    this.#releases.push(
      this.#bus.watchOther(() => this.#frontChanged()),
      domain.onReset(() => this.#reset()),
    );
  }

  get state(): XenbusState {
    return this.#bus.state;
  }

  close(): Later<void> {
    if (this.#closed) return this.#draining ?? undefined;
    this.#closed = true;
    for (const release of this.#releases) release();
    this.#bus.switchTo(XenbusState.Closing);
    const self = this;
    return run(
      (function* (): Flow {
        yield* wait(self.#disconnect());
        for (const pending of self.#abandoned) yield* wait(pending);
        self.#bus.switchTo(XenbusState.Closed);
        self.#bus.store.remove(self.#bus.path);
        self.#bus.store.remove(self.#bus.otherPath);
      })(),
    );
  }

  /** What the toolstack writes, then what the back end announces (io/blkif.h, "Backend XenBus Nodes"). */
  #createDirectories(): void {
    const { store, path, otherPath } = this.#bus;
    const guest = this.#domain.id;
    store.write(path, "");
    store.store.setPermissions(HOST_DOMAIN, path, {
      owner: HOST_DOMAIN,
      others: "none",
      domains: new Map([[guest, "read"]]),
    });
    const nodes: Record<string, string | number> = {
      [`${path}/frontend`]: otherPath,
      [`${path}/frontend-id`]: guest,
      [`${path}/online`]: 1,
      [`${path}/mode`]: this.#block.readOnly ? "r" : "w",
      [`${path}/device-type`]: "disk",
      [`${otherPath}/backend`]: path,
      [`${otherPath}/backend-id`]: HOST_DOMAIN,
      [`${otherPath}/virtual-device`]: this.device,
      [`${otherPath}/device-type`]: "disk",
      [`${otherPath}/state`]: XenbusState.Initialising,
    };
    for (const node in nodes) store.write(node, nodes[node]);
    const { flush, barrier, discard, maxIndirectSegments, maxRingPageOrder } = this.#options;
    const { sectorSize } = this.#block;
    const features: Record<string, number> = {
      "feature-flush-cache": Number(flush),
      "feature-barrier": Number(barrier),
      "feature-discard": Number(discard),
      ...(discard ? { "discard-granularity": sectorSize, "discard-alignment": 0, "discard-secure": 0 } : {}),
      ...(maxIndirectSegments > 0 ? { "feature-max-indirect-segments": maxIndirectSegments } : {}),
      "max-ring-page-order": maxRingPageOrder,
      "max-ring-pages": 1 << maxRingPageOrder,
    };
    for (const key in features) this.#bus.write(key, features[key]);
  }

  #frontChanged(): void {
    if (this.#closed || this.#draining) return;
    const { state, otherState } = this.#bus;
    switch (otherState) {
      case XenbusState.Initialising:
        if (state === XenbusState.Closed) this.#bus.switchTo(XenbusState.InitWait);
        break;
      case XenbusState.Initialised:
      case XenbusState.Connected:
        if (state === XenbusState.InitWait) this.#connect();
        break;
      case XenbusState.Closing:
      case XenbusState.Closed:
      case XenbusState.Unknown:
        if (state !== XenbusState.Closed) this.#shut();
        break;
    }
  }

  #connect(): void {
    try {
      this.#connectRing();
    } catch (thrown) {
      this.#fail(asParavaneError(thrown, "PROTOCOL"));
    }
  }

  /** Reads what the front end has published and serves it. Its nodes are the guest's to write: every one is checked. */
  #connectRing(): void {
    const { sectorSize, size, readOnly } = this.#block;
    const { flush, barrier, discard, maxIndirectSegments } = this.#options;
    if (sectorSize !== 512 && this.#bus.other("feature-large-sector-size", 0) === 0) {
      throw new ParavaneError("UNSUPPORTED", `the front end cannot use sectors of ${sectorSize} bytes`);
    }
    const features =
      (flush ? BlkbackFeature.Flush : 0) |
      (barrier ? BlkbackFeature.Barrier : 0) |
      (discard ? BlkbackFeature.Discard : 0) |
      (readOnly ? BlkbackFeature.ReadOnly : 0);
    const ring = new BlkbackRing(this.#domain.machine.memory, this.#domain.grants, this.#block, {
      refs: this.#ringRefs(),
      abi: this.#protocol(),
      features,
      maxIndirectSegments,
    });
    ring.onFatal = (error) => this.#fail(error);
    this.#ring = ring;
    const remote = this.#bus.required("event-channel");
    const port = this.#hypervisor.bindHostPort(this.#domain.id, remote, () => ring.pump());
    this.#port = port;
    ring.onNotify = () => this.#hypervisor.eventChannels.send(HOST_DOMAIN, port);
    this.#bus.write("sectors", size / sectorSize);
    this.#bus.write("sector-size", sectorSize);
    this.#bus.write("physical-sector-size", sectorSize);
    this.#bus.write("info", readOnly ? Vdisk.ReadOnly : 0);
    this.#bus.switchTo(XenbusState.Connected);
    ring.pump(); // requests may stand on the ring already
  }

  #ringRefs(): number[] {
    const order = this.#bus.other("ring-page-order", 0);
    if (order > this.#options.maxRingPageOrder) {
      throw new ParavaneError(
        "PROTOCOL",
        `ring-page-order ${order} is more than the ${this.#options.maxRingPageOrder} offered`,
      );
    }
    if (order === 0 && this.#bus.other("ring-ref", -1) >= 0) return [this.#bus.required("ring-ref")];
    return Array.from({ length: 1 << order }, (_, page) => this.#bus.required(`ring-ref${page}`));
  }

  #protocol(): "x86_64-abi" | "x86_32-abi" {
    const name = this.#bus.store.get(`${this.#bus.otherPath}/protocol`) ?? "x86_64-abi";
    if (name !== "x86_64-abi" && name !== "x86_32-abi") {
      throw new ParavaneError("UNSUPPORTED", "the front end asks for an unknown ring protocol", { protocol: name });
    }
    return name;
  }

  /** xenbus_dev_fatal: says why in the store and closes. The front end may start over. */
  #fail(error: ParavaneError): void {
    this.error = error;
    const { store, path } = this.#bus;
    const home = `/local/domain/${HOST_DOMAIN}`;
    store.write(`${home}/error${path.slice(home.length)}/error`, error.describe());
    this.#shut();
  }

  /** Closing, then Closed when what is in flight is answered; then looks at the front end again. */
  #shut(): void {
    this.#bus.switchTo(XenbusState.Closing);
    const pending = this.#disconnect();
    if (!pending) {
      this.#shutDone();
      return;
    }
    const draining = pending.then(() => {
      if (this.#draining !== draining) return;
      this.#draining = null;
      if (!this.#closed) this.#shutDone();
    });
    this.#draining = draining;
  }

  #shutDone(): void {
    this.#bus.switchTo(XenbusState.Closed);
    if (this.#bus.otherState === XenbusState.Initialising) this.#frontChanged();
  }

  #disconnect(): Later<void> {
    const ring = this.#ring;
    const port = this.#port;
    this.#ring = null;
    this.#port = 0;
    const unbind = () => this.#hypervisor.closeHostPort(port);
    const pending = ring?.close();
    if (pending) return pending.then(unbind); // until then it announces the last responses
    if (port !== 0) unbind();
    return this.#draining ?? undefined;
  }

  /** The guest started over: back to the beginning, both ends. */
  #reset(): void {
    const pending = this.#ring?.abandon();
    if (pending) this.#abandoned = [...this.#abandoned, pending];
    this.#disconnect();
    this.#draining = null;
    this.#bus.store.write(`${this.#bus.otherPath}/state`, XenbusState.Initialising);
    this.#bus.switchTo(XenbusState.InitWait);
  }
}
disposable(BlkbackDevice.prototype);
