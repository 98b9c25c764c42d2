// Prints the logits that transformers.js computes in Node for texts, one at a time, as JSON.
//
//     node logits.mjs NODE_MODULES FOLDER TEXTS.json
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { dirname, basename } from "node:path";

const [modules, folder, file] = process.argv.slice(2);
const { AutoModel, AutoTokenizer, env } = await import(
  createRequire(`${modules}/`).resolve("@huggingface/transformers").replace(".cjs", ".mjs")
);
console.warn = () => {};
env.allowRemoteModels = false;
env.localModelPath = `${dirname(folder)}/`;
const tokenizer = await AutoTokenizer.from_pretrained(basename(folder));
const model = await AutoModel.from_pretrained(basename(folder), { dtype: "fp32" });
const rows = [];
for (const text of JSON.parse(readFileSync(file, "utf8"))) {
  rows.push((await model(tokenizer([text]))).logits.tolist()[0]);
}
console.log(JSON.stringify(rows));
