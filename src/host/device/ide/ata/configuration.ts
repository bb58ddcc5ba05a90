// DEVICE CONFIGURATION (ATA/ATAPI-6 §8.8): makes the drive hide what it could do.
import { AtaConfigurable, AtaConfiguration, AtaError, AtaRegister } from "../../../../../assembly/spec/ata.ts";
import { type AtaDisk, addChecksum, reply, takeBlock, type Verdict } from "./command.ts";
import { type ConfigurationState, factoryConfiguration } from "./state.ts";

/** The overlay data: revision, and the byte before the checksum. */
const REVISION = 2;
const SIGNATURE = 0xa5;

export function deviceConfiguration(disk: AtaDisk): Verdict {
  const { port, config, state } = disk;
  const { configuration } = state;
  const factory = factoryConfiguration(config);
  if (configuration.frozen) return false;
  switch (port.register(AtaRegister.Features)) {
    case AtaConfiguration.Identify:
      return reply(disk, encode(factory));
    case AtaConfiguration.FreezeLock:
      configuration.frozen = true;
      return true;
    case AtaConfiguration.Restore:
      // RESTORE: not while SET MAX hides something.
      if (state.visible < configuration.sectors) return false;
      return apply(disk, factory);
    case AtaConfiguration.Set: {
      const block = takeBlock(disk, state.visible === configuration.sectors);
      if (!(block instanceof Uint8Array)) return block;
      const wanted = decode(block);
      return typeof wanted === "number" ? refuse(disk, wanted) : set(disk, factory, wanted);
    }
    default:
      return false;
  }
}

/** SET: masks may lose bits from the top only, features any, sectors some. */
function set(disk: AtaDisk, factory: ConfigurationState, wanted: ConfigurationState): Verdict {
  const isMask = (mask: number, of: number) => (mask & ~of) === 0 && (mask & (mask + 1)) === 0;
  if (!isMask(wanted.multiWord, factory.multiWord)) return refuse(disk, 1);
  if (!isMask(wanted.ultra, factory.ultra)) return refuse(disk, 2);
  if (wanted.sectors < 1 || wanted.sectors > factory.sectors) return refuse(disk, 3);
  if ((wanted.features & ~factory.features) !== 0) return refuse(disk, 7);
  // A password in force keeps SECURITY where it is, an area set aside the protected area.
  if (disk.state.security.enabled && (wanted.features & AtaConfigurable.Security) === 0) return refuse(disk, 7);
  return apply(disk, wanted);
}

function apply(disk: AtaDisk, configuration: ConfigurationState): Verdict {
  const { state } = disk;
  state.configuration = configuration;
  state.visible = configuration.sectors;
  state.visibleAtPowerOn = configuration.sectors;
  disk.publish();
  return true;
}

/** SET, error outputs: the word that is wrong, in LBA high. */
function refuse({ port }: AtaDisk, word: number): Verdict {
  port.setRegister(AtaRegister.LbaHigh, word);
  port.fail(AtaError.Abort);
  return "answered";
}

function encode(configuration: ConfigurationState): Uint8Array {
  const bytes = new Uint8Array(512);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, REVISION, true);
  view.setUint16(2, configuration.multiWord, true);
  view.setUint16(4, configuration.ultra, true);
  view.setBigUint64(6, BigInt(Math.max(0, configuration.sectors - 1)), true);
  view.setUint16(14, configuration.features, true);
  bytes[510] = SIGNATURE;
  addChecksum(bytes);
  return bytes;
}

/** The settings in `bytes`, or the number of the word that is wrong. */
function decode(bytes: Uint8Array): ConfigurationState | number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes[510] !== SIGNATURE || (bytes.reduce((sum, byte) => sum + byte, 0) & 0xff) !== 0) return 255;
  const revision = view.getUint16(0, true);
  if (revision < 1 || revision > REVISION) return 0;
  return {
    frozen: false,
    multiWord: view.getUint16(2, true),
    ultra: view.getUint16(4, true),
    sectors: Number(view.getBigUint64(6, true) & 0xffffffffffffn) + 1,
    features: view.getUint16(14, true),
  };
}
