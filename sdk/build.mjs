// Builds the SDK: what npm gets into dist/, and what the service serves into service/pages/sdk/, which is committed.
//
//   node build.mjs            write all of it
//   node build.mjs --check    exit 1 when a committed file differs, or the package holds other files than it should
//
// A file with a version in its name is never changed once that version is released: pages of shops pin its hash.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const FOLDER = dirname(fileURLToPath(import.meta.url));
const ROOT = dirname(FOLDER);
const SERVED = join(ROOT, "service", "pages", "sdk");
const GUIDE = join(ROOT, "docs", "sdk.md");
const { version } = JSON.parse(readFileSync(join(FOLDER, "package.json"), "utf8"));
const BUILT = ["footfall.d.ts", "footfall.js", "footfall.js.map", "footfall.mjs", "footfall.mjs.map"];
const PACKED = ["LICENSE", "README.md", "package.json", ...BUILT.map((name) => `dist/${name}`)];

/** The code and its source map, under this name. */
async function bundle(name, isScript) {
  const { outputFiles } = await build({
    absWorkingDir: FOLDER,
    entryPoints: ["src/footfall.ts"],
    outfile: name,
    bundle: true,
    minify: true,
    write: false,
    sourcemap: "linked",
    target: "es2020",
    charset: "utf8",
    format: isScript ? "iife" : "esm",
    define: { SCRIPT_TAG: `${isScript}`, VERSION: JSON.stringify(version) },
    banner: { js: `/* footfall-js ${version}, MIT */` },
    logLevel: "warning",
  });
  return outputFiles.map(({ path, text }) => {
    if (!path.endsWith(".map")) return [name, text];
    return [`${name}.map`, JSON.stringify({ ...JSON.parse(text), sources: ["footfall.ts"] })];
  });
}

const integrity = (text) => `sha384-${createHash("sha384").update(text).digest("base64")}`;
const gzipped = (text) => gzipSync(text, { level: 9 }).length;

/** What the service serves, by file name. */
async function served() {
  const [script, module] = [`footfall-${version}.js`, `footfall-${version}.mjs`];
  const files = new Map([...(await bundle(script, true)), ...(await bundle(module, false))]);
  const about = (name) => ({
    path: `/sdk/${name}`,
    integrity: integrity(files.get(name)),
    bytes: Buffer.byteLength(files.get(name)), // gzipped it depends on the machine's zlib
  });
  files.set("footfall.json", `${JSON.stringify({ version, script: about(script), module: about(module) }, null, 2)}\n`);
  return files;
}

/** The guide with this build's version and hash. */
function guide(files) {
  const { script } = JSON.parse(files.get("footfall.json"));
  return readFileSync(GUIDE, "utf8")
    .replace(/footfall-\d+\.\d+\.\d+\.(m?js)/g, `footfall-${version}.$1`)
    .replace(/sha384-[A-Za-z0-9+/=]{64}/g, script.integrity);
}

async function writeDist() {
  mkdirSync(join(FOLDER, "dist"), { recursive: true });
  for (const name of ["footfall.js", "footfall.mjs"]) {
    for (const [path, text] of await bundle(name, name.endsWith(".js"))) writeFileSync(join(FOLDER, "dist", path), text);
  }
  const tsc = join(FOLDER, "node_modules", "typescript", "bin", "tsc");
  execFileSync(process.execPath, [tsc, "--declaration", "--emitDeclarationOnly"], { cwd: FOLDER, stdio: "inherit" });
}

function packed() {
  const options = { cwd: FOLDER, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] };
  const said = execFileSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], options);
  const [{ files }] = Object.values(JSON.parse(said));
  return files.map(({ path }) => path);
}

const files = await served();
await writeDist();
if (process.argv.includes("--check")) {
  const wanted = [...files].map(([name, text]) => [join(SERVED, name), text]).concat([[GUIDE, guide(files)]]);
  const differing = wanted.filter(([path, text]) => !existsSync(path) || readFileSync(path, "utf8") !== text);
  for (const [path] of differing) console.error(`${path} is not what sdk/src builds to: make sdk`);
  const found = packed().sort();
  const isPackage = found.join() === [...PACKED].sort().join();
  if (!isPackage) console.error(`npm would publish ${found.join(", ")}`);
  process.exitCode = differing.length || !isPackage ? 1 : 0;
} else {
  mkdirSync(SERVED, { recursive: true });
  for (const [name, text] of files) writeFileSync(join(SERVED, name), text);
  if (existsSync(GUIDE)) writeFileSync(GUIDE, guide(files));
}
console.log(`footfall-js ${version}: ${gzipped(files.get(`footfall-${version}.js`))} bytes gzipped`);
