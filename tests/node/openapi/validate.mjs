// Says what is wrong with OpenAPI and AsyncAPI documents, as a JSON object of lists by their files.
import { readFileSync } from "node:fs";
import { Validator } from "@seriousme/openapi-schema-validator";
import asyncapi from "@asyncapi/parser";

const wrong = {};
for (const file of process.argv.slice(2)) {
  const text = readFileSync(file, "utf8");
  const document = JSON.parse(text);
  if (document.asyncapi) {
    const { diagnostics } = await new asyncapi.Parser().parse(text);
    // 0 is an error, 1 a warning; below are hints, such as that there is a newer version.
    wrong[file] = diagnostics.filter(({ severity }) => severity < 2).map(({ path, message }) => `${path.join(".")}: ${message}`);
  } else {
    const { valid, errors } = await new Validator().validate(document);
    wrong[file] = valid ? [] : [errors].flat();
  }
}
console.log(JSON.stringify(wrong));
