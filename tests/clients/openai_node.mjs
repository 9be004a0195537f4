// The official Node client, unchanged, against a server. There is no npm here: the client's own TypeScript is bundled by Debian's
// esbuild, which takes the types away and nothing else (it has no dependencies).
//     git clone https://github.com/openai/openai-node; esbuild openai-node/src/index.ts --bundle --platform=node --format=esm \
//         --target=node18 --tsconfig=openai-node/tsconfig.json --outfile=openai.mjs
//     node tests/clients/openai_node.mjs openai.mjs http://127.0.0.1:8080/v1 [KEY]
import assert from 'node:assert/strict';
import { pathToFileURL } from 'node:url';

const [bundle, baseURL, apiKey = 'none'] = process.argv.slice(2);
if (!baseURL) { console.error('usage: openai_node.mjs BUNDLE URL [KEY]'); process.exit(2); }
const { default: OpenAI, NotFoundError, BadRequestError, AuthenticationError } = await import(pathToFileURL(bundle));
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const model = (await client.models.list()).data[0].id;
const messages = [{ role: 'user', content: 'Say hello in three words.' }];
const ask = { model, messages, temperature: 0, max_tokens: 12 };

const checks = {
  async models() { assert.equal((await client.models.retrieve(model)).id, model); },
  async whole() {
    const answer = await client.chat.completions.create(ask);
    assert.ok(answer.choices[0].message.content.length > 0);
    assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
    assert.match(answer._request_id, /^\S+$/);
  },
  async stream_is_the_whole_in_pieces() {
    const whole = await client.chat.completions.create(ask);
    let text = '', usage = null, finish = null;
    for await (const chunk of await client.chat.completions.create({ ...ask, stream: true, stream_options: { include_usage: true } })) {
      text += chunk.choices[0]?.delta?.content ?? '';
      finish = chunk.choices[0]?.finish_reason ?? finish;
      usage = chunk.usage ?? usage;
    }
    assert.equal(text, whole.choices[0].message.content);
    assert.equal(finish, whole.choices[0].finish_reason);
    assert.deepEqual([usage.prompt_tokens, usage.completion_tokens], [whole.usage.prompt_tokens, whole.usage.completion_tokens]);
  },
  async stream_helper_with_events() {
    let pieces = 0;
    const runner = client.chat.completions.stream(ask).on('content', () => { pieces += 1; });
    const final = await runner.finalChatCompletion();
    assert.ok(pieces > 0 && final.choices[0].message.content.length > 0);
  },
  async a_stream_is_aborted() {
    const stream = await client.chat.completions.create({ ...ask, max_tokens: 400, stream: true });
    for await (const _ of stream) { stream.controller.abort(); break; }
    assert.ok((await client.chat.completions.create(ask)).id);
  },
  async logprobs() {
    const answer = await client.chat.completions.create({ ...ask, logprobs: true, top_logprobs: 3 });
    const content = answer.choices[0].logprobs.content;
    assert.ok(content.length > 0 && content.every((token) => token.logprob <= 0 && token.top_logprobs.length === 3 && token.bytes.length > 0));
  },
  async several_choices_with_a_seed() {
    const twice = await Promise.all([0, 1].map(() => client.chat.completions.create({ ...ask, temperature: 1, seed: 7, n: 2 })));
    assert.deepEqual(twice[0].choices.map((c) => c.message.content), twice[1].choices.map((c) => c.message.content));
    assert.equal(twice[0].choices.length, 2);
  },
  async json_schema() {
    const schema = { type: 'object', properties: { name: { type: 'string', maxLength: 20 }, age: { type: 'integer' } }, required: ['name', 'age'], additionalProperties: false };
    const answer = await client.chat.completions.parse({ ...ask, max_tokens: 80, response_format: { type: 'json_schema', json_schema: { name: 'person', strict: true, schema } } });
    assert.deepEqual(Object.keys(answer.choices[0].message.parsed ?? JSON.parse(answer.choices[0].message.content)), ['name', 'age']);
  },
  async completions_with_echo() {
    const answer = await client.completions.create({ model, prompt: 'The sky is', max_tokens: 0, echo: true, logprobs: 1 });
    assert.equal(answer.choices[0].text, 'The sky is');
    assert.equal(answer.choices[0].logprobs.token_logprobs[0], null);
  },
  async embeddings() {  // as base64, which the client asks for by itself
    const vector = (await client.embeddings.create({ model, input: 'hello' })).data[0].embedding;
    const plain = (await client.embeddings.create({ model, input: 'hello', encoding_format: 'float' })).data[0].embedding;
    assert.ok(Math.abs(Math.hypot(...vector) - 1) < 1e-3);
    assert.ok(vector.every((x, i) => Math.abs(x - plain[i]) < 1e-6));
  },
  async errors() {
    await assert.rejects(client.chat.completions.create({ ...ask, model: 'nobody' }), (e) => e instanceof NotFoundError && e.code === 'model_not_found');
    await assert.rejects(client.chat.completions.create({ ...ask, temperature: 9 }), (e) => e instanceof BadRequestError && e.param === 'temperature');
    if (apiKey !== 'none') {
      await assert.rejects(new OpenAI({ baseURL, apiKey: 'wrong', maxRetries: 0 }).models.list(), (e) => e instanceof AuthenticationError && e.code === 'invalid_api_key');
    }
  },
};
let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  try { await check(); console.log(`passed  ${name}`); } catch (error) { failed += 1; console.log(`FAILED  ${name}: ${error.stack}`); }
}
console.log(`${Object.keys(checks).length - failed} passed, ${failed} failed (openai-node ${(await import(pathToFileURL(bundle))).VERSION ?? ''} ${model})`);
process.exit(failed ? 1 : 0);
