// Builds one bundle, NAME.js and NAME.css, for every file src/entries/NAME.ts, into the folder that is named.
import { readdirSync } from "node:fs";
import { build } from "esbuild";

const [folder] = process.argv.slice(2);
const { metafile } = await build({
  entryPoints: readdirSync("src/entries").map((name) => `src/entries/${name}`),
  outdir: folder,
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: true,
  charset: "utf8",
  legalComments: "inline",
  metafile: true,
  logLevel: "warning",
});
for (const [path, { bytes }] of Object.entries(metafile.outputs)) console.log(`${path}: ${bytes} bytes`);
