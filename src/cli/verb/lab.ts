import type { Verb } from "../verb.ts";

export const lab: Verb = {
  name: "lab",
  summary: "one disk through every I/O model: what each costs, and why",
  description: [
    "Plugs a virtual disk into a machine in five ways: bare (the driver wired straight to the device's registers), emulated",
    "IDE by PIO and by DMA, a Xen block device and virtio. Runs the same workloads through each, checks every byte read,",
    "lets another model read what each has written, and prints how one read travels, what each model costs, and how much",
    "code each takes.",
    "Exit code 0 means that every byte was right in every model.",
  ].join("\n"),
  options: {
    disk: {
      value: "FILE",
      help: "image to use; created when absent. An existing one is read only, below a\nthrow-away overlay, unless --overwrite is given. Default: a temporary image",
    },
    overwrite: { help: "write an existing image itself" },
    size: { value: "SIZE", help: "size of a new image (default 256M)" },
    format: { value: "NAME", help: "format of the image (default: by its name or content; vhd when new)" },
    models: { value: "LIST", help: "of bare,ide-pio,ide-dma,xen,virtio (default: all)" },
    workload: { value: "LIST", help: "of sequential,random,mixed,verify (default: all)" },
    "block-size": { value: "LIST", help: "bytes of a request (default 4K)" },
    "queue-depth": { value: "LIST", help: "requests in flight together (default 1,32)" },
    seconds: { value: "N", help: "duration of each measurement (default 1)" },
    seed: { value: "N", help: "decides every byte and every request (default 1)" },
    json: { help: "print one JSON object instead of tables" },
    html: { value: "FILE", help: "write a report with diagrams and plots" },
    trace: { value: "FILE", help: "write every step of the traced reads, one JSON object a line" },
  },
  examples: [
    ["paravane lab", "everything, on a temporary disk, in about a minute"],
    [
      "paravane lab --disk disk.vhd --models ide-dma,virtio --seconds 0.2",
      "a quick comparison; disk.vhd stays as it is if it exists",
    ],
    ["paravane lab --json --queue-depth 1,8,64 > lab.json", "figures for a program"],
    ["paravane lab --html lab.html", "the report with its diagrams"],
  ],
  // Only this command needs the machines, their devices and their guests.
  run: async (values, ui) => (await import("./lab-run.ts")).run(values, ui),
};
