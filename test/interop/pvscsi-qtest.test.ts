// The differential run: the same random programs of rings and SCSI commands on our PVSCSI adapter and on QEMU's, compared after
// every kick. What differs on purpose is in test/support/pvscsi-known.ts, each with a verdict.
import { expect } from "vitest";
import { HostStatus } from "../../assembly/spec/pvscsi.ts";
import { ScsiOp } from "../../assembly/spec/scsi.ts";
import { peerTest } from "../support/peers.ts";
import { type Completed, explained, unmapsPastTheEnd } from "../support/pvscsi-known.ts";
import { type PvscsiBatch, PvscsiGenerator, type PvscsiStep } from "../support/pvscsi-program.ts";
import { DISKS, OurAdapter, QemuAdapter, type Seen, WINDOW } from "../support/pvscsi-sides.ts";
import { Random } from "../support/random.ts";
import { tier } from "../support/tier.ts";

const PROGRAMS = tier(60, 10_000);
/** Kicks of a program. */
const KICKS = 8;
/** Minutes that QEMU is given. */
const MINUTES = tier(5, 60);

/** Takes the unit attentions away. */
const FIRST: PvscsiBatch = {
  other: false,
  steps: DISKS.map((_, target) => ({
    cdb: [ScsiOp.TestUnitReady, 0, 0, 0, 0, 0],
    target,
    lun: 0,
    flags: 0,
    length: 0,
    senseLength: 64,
    contextHigh: 0,
  })),
};

function completed(seen: Seen, context: number, index: number): Completed | undefined {
  const found = seen.completions.get(context);
  return found && { ...found, data: seen.data.subarray(index * WINDOW, (index + 1) * WINDOW) };
}

/** Bytes of the window that must be the same: all of a read's; of an answer what ours has, or its length alone. */
function compared({ cdb }: PvscsiStep, ours: Completed): number {
  if ([ScsiOp.Inquiry, ScsiOp.ModeSense6, ScsiOp.ModeSense10].includes(cdb[0])) return 0;
  if ([ScsiOp.RequestSense, ScsiOp.ServiceActionIn16, ScsiOp.ReportLuns].includes(cdb[0])) return ours.bytes;
  return WINDOW;
}

/** Statuses, and sense as far as it is looked at: key and code, of a unit attention after a reset the code without qualifier. */
function summary({ host, status, sense }: Completed): string {
  const code = sense.slice(24, 26) === "29" ? "29" : sense.slice(24, 28);
  const told = status === 2 ? `${sense.slice(0, 24)} ${code}` : "";
  return `${status === 2 && host === HostStatus.DataRun ? HostStatus.Success : host} ${status} ${told}`;
}

function same(step: PvscsiStep, ours: Completed, theirs: Completed): boolean {
  // Then the disks may differ although the statuses do not.
  if (ours.host === HostStatus.DataRun || unmapsPastTheEnd(step, ours)) return false;
  const bytes = compared(step, ours);
  return (
    summary(ours) === summary(theirs) &&
    Buffer.compare(ours.data.subarray(0, bytes), theirs.data.subarray(0, bytes)) === 0
  );
}

peerTest(
  "qemu-system-x86_64",
  "qemu-system-x86",
  "random programs on our adapter and on QEMU's",
  async () => {
    const seed = Number(process.env.PARAVANE_SEED ?? 1);
    const generator = new PvscsiGenerator(new Random(seed));
    const known = new Map<string, number>();
    const ours = new OurAdapter();
    const theirs = new QemuAdapter(MINUTES * 60);
    let kicks = 0;
    let commands = 0;
    let alike = 0;
    try {
      for (let program = 0; program < PROGRAMS; program++) {
        // The reporter hears from us now and then.
        if (program % 64 === 0) await new Promise((resolve) => setTimeout(resolve, 0));
        for (const side of [ours, theirs]) {
          side.restore();
          side.start();
        }
        let diverged = false;
        for (let kick = 0; kick < KICKS && !diverged; kick++) {
          const batch = kick === 0 ? FIRST : generator.batch();
          const [a, b] = [ours.run(batch, ++kicks), theirs.run(batch, kicks)];
          const where = `seed ${seed}, kick ${kicks}`;
          expect(a.registers, `${where}, after command ${batch.command}`).toEqual(b.registers);
          batch.steps.forEach((step, i) => {
            const context = kicks * 16 + i;
            const [mine, his] = [completed(a, context, i), completed(b, context, i)];
            if (!mine || !his) throw new Error(`${where}: a completion is missing`);
            commands++;
            if (same(step, mine, his)) {
              alike++;
              return;
            }
            const why = explained(step, mine, his);
            if (!why) {
              expect.fail(
                `${where}: ${JSON.stringify({ ...step, out: undefined })}\nours ${summary(mine)}\nQEMU ${summary(his)}`,
              );
            }
            known.set(why.name, (known.get(why.name) ?? 0) + 1);
            diverged ||= why.diverges === true;
          });
        }
        if (diverged) continue;
        for (const target of DISKS.keys())
          expect(Buffer.compare(ours.disks[target].bytes, theirs.disk(target)), `seed ${seed}, disk ${target}`).toBe(0);
      }
    } finally {
      theirs.close();
    }
    const parts = [...known].map(([what, count]) => `${what} ${count}`).join("; ");
    process.stdout.write(
      `PVSCSI: ${PROGRAMS} programs, ${kicks} kicks, ${commands} commands, ${alike} the same; known: ${parts}\n`,
    );
    expect(alike).toBeGreaterThan(commands * 0.85);
  },
  MINUTES * 60_000,
);
