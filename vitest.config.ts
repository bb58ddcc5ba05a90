import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

// PARAVANE_CORE=debug runs every suite over the core built with its assertions on.
const core = process.env.PARAVANE_CORE ?? "release";

export default defineConfig({
  resolve: {
    alias: [
      {
        find: /^.*\/core\.gen\.ts$/,
        replacement: fileURLToPath(
          new URL(`./src/wasm/core${core === "debug" ? ".debug" : ""}.gen.ts`, import.meta.url),
        ),
      },
    ],
  },
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/support/build.ts"],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    maxWorkers: 2,
  },
});
