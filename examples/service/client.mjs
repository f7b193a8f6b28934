// node client.mjs http://localhost:8000: a point of the latent space to a picture, by any server of the Open Inference Protocol.

const [url] = process.argv.slice(2);
const answer = await fetch(`${url}/v2/models/mnist_decoder/infer`, {
  method: "POST",
  body: JSON.stringify({ inputs: [{ name: "z", shape: [1, 2], datatype: "FP32", data: [0.5, -1] }] }),
});
const { outputs, error } = await answer.json();
if (error) throw new Error(error);
const [image] = outputs; // image.data: 28 * 28 numbers 0..1
console.log(JSON.stringify({ shape: image.shape, largest: Math.max(...image.data) }));
