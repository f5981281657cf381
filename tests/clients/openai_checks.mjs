// Run by node: what OpenAI's package for JavaScript sees of a server. Prints one JSON object of outcomes.
// node openai_checks.mjs http://127.0.0.1:PORT/v1 MODEL
import assert from 'node:assert/strict'
import OpenAI, { toFile } from 'openai'
import { gathered, run } from './checking.mjs'

const [baseURL, model] = process.argv.slice(2)
const client = new OpenAI({ baseURL, apiKey: 'none', maxRetries: 0, timeout: 60_000 })
const messages = [{ role: 'user', content: 'Where is my order?' }]
const short = { model, messages, max_tokens: 6, temperature: 0 }
const schema = {
  type: 'object',
  properties: { city: { type: 'string', maxLength: 8 }, n: { type: 'integer', minimum: 0, maximum: 9 } },
  required: ['city', 'n'],
  additionalProperties: false,
}
const weather = { type: 'function', function: { name: 'weather', description: 'of a city', parameters: schema } }

const text = (chunks) => chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('')

const checks = {
  async check_models() {
    const names = (await gathered(await client.models.list())).map((found) => found.id)
    assert(names.includes(model))
    assert.equal((await client.models.retrieve(`org/${model}`)).id, `org/${model}`)
  },
  async check_chat() {
    const { data, response } = await client.chat.completions
      .create({ ...short, logit_bias: { 0: -100, 2: -100 } })
      .withResponse()
    assert.equal(response.status, 200)
    assert.equal(data.choices[0].finish_reason, 'length')
    assert.equal(data.usage.total_tokens, data.usage.prompt_tokens + 6)
  },
  async check_stream() {
    const whole = await client.chat.completions.create(short)
    const stream = await client.chat.completions.create({
      ...short,
      stream: true,
      stream_options: { include_usage: true },
    })
    const chunks = await gathered(stream)
    assert.equal(text(chunks), whole.choices[0].message.content)
    assert.deepEqual(chunks.at(-1).usage, whole.usage)
    assert.equal(new Set(chunks.map((chunk) => chunk.id)).size, 1)
  },
  async check_stream_helper() {
    const stream = client.chat.completions.stream({ ...short, max_tokens: 12 })
    const heard = []
    stream.on('content', (delta) => heard.push(delta))
    assert.equal(await stream.finalContent(), heard.join(''))
    assert((await stream.totalUsage()).completion_tokens >= 0)
  },
  async check_forced_tool() {
    const asked = { model, messages, tools: [weather], tool_choice: 'required' }
    const answer = await client.chat.completions.create(asked)
    const [call] = answer.choices[0].message.tool_calls
    assert.equal(answer.choices[0].finish_reason, 'tool_calls')
    assert.deepEqual(Object.keys(JSON.parse(call.function.arguments)).sort(), ['city', 'n'])
    const round = [...messages, answer.choices[0].message, { role: 'tool', tool_call_id: call.id, content: 'sunny' }]
    assert.equal((await client.chat.completions.create({ ...short, messages: round })).choices.length, 1)
  },
  async check_tools_run_by_the_client() {
    const called = []
    const runner = client.chat.completions.runTools({
      model,
      messages,
      max_tokens: 60,
      tool_choice: { type: 'function', function: { name: 'weather' } },
      tools: [
        {
          type: 'function',
          function: { ...weather.function, parse: JSON.parse, function: (given) => called.push(given) && 'sunny' },
        },
      ],
    })
    await runner.finalFunctionToolCall()
    assert.equal(called.length, 1)
    assert.equal(typeof called[0].city, 'string')
  },
  async check_schema() {
    const form = { type: 'json_schema', json_schema: { name: 'place', schema, strict: true } }
    const answer = await client.chat.completions.parse({ model, messages, response_format: form })
    const { city, n } = answer.choices[0].message.parsed
    assert.equal(typeof city, 'string')
    assert(n >= 0 && n <= 9)
  },
  async check_logprobs() {
    const answer = await client.chat.completions.create({ ...short, logprobs: true, top_logprobs: 3 })
    for (const token of answer.choices[0].logprobs.content) {
      assert(token.logprob <= 0)
      assert.equal(token.top_logprobs.length, 3)
    }
  },
  async check_completions() {
    const asked = { model, prompt: 'The order', max_tokens: 0, echo: true, logprobs: 2 }
    const [choice] = (await client.completions.create(asked)).choices
    assert.equal(choice.text, 'The order')
    assert.equal(choice.logprobs.tokens.join(''), choice.text)
    const chunks = await gathered(await client.completions.create({ model, prompt: 'A', max_tokens: 4, stream: true }))
    assert(['length', 'stop'].includes(chunks.at(-1).choices[0].finish_reason))
  },
  async check_embeddings() {
    const given = { model, input: ['hello', 'world'] }
    const usual = await client.embeddings.create(given)
    const plain = await client.embeddings.create({ ...given, encoding_format: 'float' })
    assert.equal(usual.data.length, 2)
    usual.data[1].embedding.forEach((value, i) => assert(Math.abs(value - plain.data[1].embedding[i]) < 1e-5))
  },
  async check_errors() {
    const asked = (more) => client.chat.completions.create({ ...short, ...more })
    const missing = (error) => error instanceof OpenAI.NotFoundError && error.code === 'model_not_found'
    await assert.rejects(asked({ model: 'nobody' }), missing)
    await assert.rejects(asked({ model: 'nobody', stream: true }), missing)
    await assert.rejects(
      asked({ temperature: 5 }),
      (error) => error instanceof OpenAI.BadRequestError && error.param === 'temperature',
    )
    const long = [{ role: 'user', content: 'order '.repeat(3000) }]
    await assert.rejects(asked({ messages: long }), (error) => error.code === 'context_length_exceeded')
  },
  async check_leaving_midway() {
    const stream = await client.chat.completions.create({ ...short, max_tokens: 900, stream: true })
    for await (const chunk of stream) if (chunk) break
    assert.equal(stream.controller.signal.aborted, true)
    await client.chat.completions.create(short)
  },
  async check_files_and_a_batch() {
    const asked = { ...short, max_tokens: 4 }
    const row = (i) => JSON.stringify({ custom_id: `r${i}`, method: 'POST', url: '/v1/chat/completions', body: asked })
    const data = [0, 1, 2].map(row).join('\n')
    const sent = await client.files.create({ file: await toFile(Buffer.from(data), 'rows.jsonl'), purpose: 'batch' })
    assert.equal(sent.bytes, data.length)
    assert.equal(await (await client.files.content(sent.id)).text(), data)
    const endpoint = '/v1/chat/completions'
    let batch = await client.batches.create({ input_file_id: sent.id, endpoint, completion_window: '24h' })
    for (let i = 0; i < 600 && !['completed', 'failed'].includes(batch.status); i++) {
      await new Promise((resolve) => setTimeout(resolve, 50))
      batch = await client.batches.retrieve(batch.id)
    }
    assert.deepEqual(batch.request_counts, { total: 3, completed: 3, failed: 0 })
    const lines = (await (await client.files.content(batch.output_file_id)).text()).trim().split('\n')
    assert.deepEqual(lines.map((line) => JSON.parse(line).custom_id), ['r0', 'r1', 'r2'])
    const listed = []
    for await (const each of client.batches.list({ limit: 1 })) listed.push(each.id)
    assert.ok(listed.includes(batch.id))
    await assert.rejects(client.batches.cancel(batch.id), (error) => error.status === 400)
    assert.equal((await client.files.delete(sent.id)).deleted, true)
    await assert.rejects(client.files.retrieve(sent.id), (error) => error.status === 404)
  },
  async check_moderations() {
    const found = await client.moderations.create({ input: ['Where is my order?', 'I will kill you'] })
    assert.deepEqual(found.results.map((result) => result.flagged), [false, true])
    assert.equal(found.model, 'freehold-rules-1')
  },
  async check_what_is_not_here() {
    await assert.rejects(client.images.generate({ prompt: 'a cat' }), (error) => error.status === 501)
  },
  async check_at_once() {
    const ask = async () => text(await gathered(await client.chat.completions.create({ ...short, stream: true })))
    assert.equal(new Set(await Promise.all(Array.from({ length: 50 }, ask))).size, 1)
  },
}

await run(checks)
