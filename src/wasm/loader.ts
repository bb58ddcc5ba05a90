// build.mjs bundles @assemblyscript/loader into the published form of this file, so that the core has no dependency at
// run time and a page needs no bundler.
export { instantiateSync } from "@assemblyscript/loader";
