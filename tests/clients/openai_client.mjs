// SPDX-License-Identifier: Apache-2.0
//
// The npm package `openai` against a running server: what an application that was written for OpenAI sees.
//
//   npm ci                                      (once, in this folder; Node 18 or newer)
//   peregrine serve examples/shakespeare        (in another terminal)
//   node openai_client.mjs http://127.0.0.1:8080 PATH/expected.json
//
// expected.json holds greedy texts and log-probabilities of the model, computed by transformers. The server
// must serve that model and no other. Prints a line for each check; exits with 1 and a message at the first
// failure.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import process from 'node:process';
import OpenAI from 'openai';

const [baseUrl, expectedPath] = process.argv.slice(2);
if (!baseUrl || !expectedPath) {
  console.error('usage: node openai_client.mjs BASE_URL EXPECTED_JSON');
  process.exit(2);
}

const client = new OpenAI({
  apiKey: 'none',
  baseURL: baseUrl.replace(/\/+$/, '').replace(/\/v1$/, '') + '/v1',
  maxRetries: 0,
  timeout: 300_000,
});
const expected = JSON.parse(readFileSync(expectedPath, 'utf8')).greedy;

let model = '';

/** What is the same in every greedy request; the texts were computed with end-of-text not in force. */
function greedy(example, more = {}) {
  const { prompt, max_new_tokens } = example;
  return { model, prompt, max_tokens: max_new_tokens, temperature: 0, ignore_eos: true, ...more };
}

function checkUsage(usage, promptTokens, completionTokens) {
  assert.equal(usage.prompt_tokens, promptTokens, 'usage.prompt_tokens');
  assert.equal(usage.completion_tokens, completionTokens, 'usage.completion_tokens');
  assert.equal(usage.total_tokens, promptTokens + completionTokens, 'usage.total_tokens');
}

async function checkModels() {
  const models = [];
  for await (const entry of await client.models.list()) models.push(entry);
  assert.equal(models.length, 1, `one model must be listed, found ${models.map((m) => m.id)}`);
  assert.equal(models[0].object, 'model');
  model = models[0].id;
}

async function checkWhole(example) {
  const answer = await client.completions.create(greedy(example, { logprobs: 1 }));
  assert.match(answer.id, /^cmpl-/);
  assert.equal(answer.object, 'text_completion');
  assert.equal(answer.model, model);
  assert.equal(answer.choices.length, 1);
  const [choice] = answer.choices;
  assert.equal(choice.text, example.text);
  assert.equal(choice.index, 0);
  assert.equal(choice.finish_reason, 'length');
  checkUsage(answer.usage, example.prompt_ids.length, example.new_ids.length);

  const { tokens, token_logprobs: found, top_logprobs: top, text_offset: offsets } = choice.logprobs;
  for (const list of [tokens, found, top, offsets]) assert.equal(list.length, example.new_ids.length);
  example.logprobs.forEach((value, i) => {
    const difference = Math.abs(found[i] - value);
    assert.ok(difference <= 1e-4, `log-probability of token ${i} is ${found[i]}, expected ${value}`);
    // The greedy token is the most likely one.
    assert.ok(Object.values(top[i]).includes(found[i]), `top_logprobs[${i}] lacks the token that was drawn`);
  });
}

async function checkStreamed(example) {
  const stream = await client.completions.create(
    greedy(example, { stream: true, stream_options: { include_usage: true } }),
  );
  let text = '';
  let usage = null;
  const reasons = [];
  for await (const chunk of stream) {
    assert.equal(chunk.object, 'text_completion');
    assert.equal(usage, null, 'the chunk with usage must be the last one');
    if (chunk.choices.length === 0) {
      usage = chunk.usage;
      continue;
    }
    assert.equal(chunk.usage, null, 'usage of a chunk with text');
    text += chunk.choices[0].text;
    if (chunk.choices[0].finish_reason) reasons.push(chunk.choices[0].finish_reason);
  }
  assert.equal(text, example.text);
  assert.deepEqual(reasons, ['length']);
  assert.notEqual(usage, null, 'no chunk had usage');
  checkUsage(usage, example.prompt_ids.length, example.new_ids.length);
}

/** All examples at once, as prompts of one request. */
async function checkSeveralPrompts() {
  const prompts = expected.map((example) => example.prompt);
  const answer = await client.completions.create(greedy(expected[0], { prompt: prompts }));
  assert.deepEqual(answer.choices.map((choice) => choice.index), expected.map((_, i) => i));
  assert.deepEqual(answer.choices.map((choice) => choice.text), expected.map((example) => example.text));
  const ids = await client.completions.create(greedy(expected[0], { prompt: expected[0].prompt_ids }));
  assert.equal(ids.choices[0].text, expected[0].text);
}

async function collectChat(stream) {
  const out = { text: '', reasons: [], roles: [] };
  for await (const chunk of stream) {
    assert.equal(chunk.object, 'chat.completion.chunk');
    const [choice] = chunk.choices;
    if (choice.delta.role) out.roles.push(choice.delta.role);
    out.text += choice.delta.content ?? '';
    if (choice.finish_reason) out.reasons.push(choice.finish_reason);
  }
  return out;
}

async function checkChat() {
  const request = {
    model,
    messages: [
      { role: 'system', content: 'Speak in verse.' },
      { role: 'user', content: [{ type: 'text', text: 'Wherefore art thou Romeo?' }] },
    ],
    temperature: 0.8,
    seed: 7,
    max_tokens: 48,
  };
  const whole = await client.chat.completions.create(request);
  assert.match(whole.id, /^chatcmpl-/);
  assert.equal(whole.object, 'chat.completion');
  assert.equal(whole.choices[0].message.role, 'assistant');
  assert.equal(whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens);
  const text = whole.choices[0].message.content;
  assert.ok(text.length > 0);

  const again = await client.chat.completions.create(request);
  assert.equal(again.choices[0].message.content, text, 'the same seed must give the same text');

  const streamed = await collectChat(await client.chat.completions.create({ ...request, stream: true }));
  assert.equal(streamed.text, text, 'streamed and whole text differ');
  assert.deepEqual(streamed.roles, ['assistant']);
  assert.deepEqual(streamed.reasons, [whole.choices[0].finish_reason]);

  const probable = await client.chat.completions.create({ ...request, logprobs: true, top_logprobs: 2 });
  const entries = probable.choices[0].logprobs.content;
  assert.equal(entries.length, probable.usage.completion_tokens);
  for (const entry of entries) {
    assert.ok(entry.logprob <= 0);
    assert.equal(entry.top_logprobs.length, 2);
    assert.ok(Array.isArray(entry.bytes));
  }
}

async function checkSeveralChoices() {
  const sampling = { temperature: 0.8, seed: 11, ignore_eos: true };
  const request = { model, prompt: 'ROMEO:', n: 2, max_tokens: 24, ...sampling };
  const answer = await client.completions.create(request);
  assert.deepEqual(answer.choices.map((choice) => choice.index), [0, 1]);
  assert.notEqual(answer.choices[0].text, answer.choices[1].text, 'two sequences of one seed must differ');
  assert.equal(answer.usage.completion_tokens, 48);

  const texts = ['', ''];
  for await (const chunk of await client.completions.create({ ...request, stream: true })) {
    for (const choice of chunk.choices) texts[choice.index] += choice.text;
  }
  assert.deepEqual(texts, answer.choices.map((choice) => choice.text));
}

async function checkStop() {
  const [example] = expected;
  // From within one word into another, so that it cannot be one token.
  const at = example.text.indexOf(' ', Math.floor(example.text.length / 3)) - 2;
  const stop = example.text.slice(at, at + 6);
  const cut = example.text.slice(0, example.text.indexOf(stop));
  const whole = await client.completions.create(greedy(example, { stop: ['not in the text', stop] }));
  assert.equal(whole.choices[0].text, cut);
  assert.equal(whole.choices[0].finish_reason, 'stop');

  let text = '';
  let reason = null;
  for await (const chunk of await client.completions.create(greedy(example, { stop, stream: true }))) {
    text += chunk.choices[0].text;
    reason = chunk.choices[0].finish_reason ?? reason;
  }
  assert.equal(text, cut);
  assert.equal(reason, 'stop');
}

async function checkErrors() {
  const prompt = { model, prompt: 'ROMEO:', max_tokens: 4 };
  const messages = [{ role: 'user', content: 'Hello' }];
  await assert.rejects(client.completions.create({ ...prompt, temperature: 3 }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError, `found ${error}`);
    assert.equal(error.status, 400);
    assert.equal(error.param, 'temperature');
    assert.match(error.message, /temperature/);
    return true;
  });
  const wrong = [{ role: 'user', content: 5 }];
  await assert.rejects(client.chat.completions.create({ model, messages: wrong }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError, `found ${error}`);
    assert.match(error.param, /^messages/);
    return true;
  });
  const unknown = 'no-such-model';
  await assert.rejects(client.completions.create({ ...prompt, model: unknown }), OpenAI.NotFoundError);
  await assert.rejects(client.chat.completions.create({ model: unknown, messages }), OpenAI.NotFoundError);
  await assert.rejects(
    client.completions.create({ ...prompt, temperature: 3, stream: true }),
    OpenAI.BadRequestError,
    'an error of a streamed request must have a status too',
  );
}

async function checkAbort() {
  const sampling = { temperature: 0.8, seed: 3, ignore_eos: true };
  const long = { model, prompt: 'ROMEO:', max_tokens: 900, ...sampling };
  const stream = await client.completions.create({ ...long, stream: true });
  let chunks = 0;
  for await (const chunk of stream) {
    assert.equal(chunk.choices[0].finish_reason, null);
    if (++chunks === 3) {
      stream.controller.abort();
      break;
    }
  }
  assert.equal(chunks, 3);
  await checkWhole(expected[0]);
}

const checks = [
  ['models.list', checkModels],
  ...expected.flatMap((example, i) => [
    [`completion ${i}, whole`, () => checkWhole(example)],
    [`completion ${i}, streamed`, () => checkStreamed(example)],
  ]),
  ['several prompts', checkSeveralPrompts],
  ['chat', checkChat],
  ['several choices', checkSeveralChoices],
  ['stop strings', checkStop],
  ['errors', checkErrors],
  ['abort', checkAbort],
];

for (const [name, check] of checks) {
  try {
    await check();
  } catch (error) {
    console.error(`FAILED: ${name}: ${error.stack ?? error}`);
    process.exit(1);
  }
  console.log(`ok: ${name}`);
}
console.log(`${checks.length} checks passed`);
