// Enrols with the core of the official Node SDK (@alicloud/openapi-core) and IN_FLIGHT concurrent calls.
//
// usage: NODE_PATH=.../node_modules node sdk.cjs HOST:PORT FOLDER PHOTOS IN_FLIGHT KEY SECRET GROUP

const { readFile } = require("node:fs/promises");
const core = require("@alicloud/openapi-core");
const tea = require("@darabonba/typescript");

const [host, folder, photos, inFlight, accessKeyId, accessKeySecret, group] = process.argv.slice(2);
const { Config, Params, OpenApiRequest } = core.$OpenApiUtil;
const client = new core.default(new Config({ accessKeyId, accessKeySecret, endpoint: host, protocol: "HTTP" }));
const params = new Params({
  action: "AddFaceRecord", version: "2022-08-09", protocol: "HTTP", pathname: "/", method: "POST",
  authType: "AK", style: "RPC", reqBodyType: "formData", bodyType: "json",
});

let next = 0;
async function enrol() {
  for (let n = next++; n < photos; n = next++) {
    const name = String(n).padStart(6, "0");
    const picture = (await readFile(`${folder}/${name}.jpg`)).toString("base64");
    const body = { ProductCode: "FACE_ENROLL", FaceGroupCode: group, MerchantUserId: name, FacePicture: picture };
    const answer = await client.callApi(params, new OpenApiRequest({ body }), new tea.RuntimeOptions({}));
    if (answer.body.Result.Passed !== "Y") throw new Error(JSON.stringify(answer));
  }
}

Promise.all(Array.from({ length: Number(inFlight) }, enrol)).catch((error) => {
  console.error(error);
  process.exit(1);
});
