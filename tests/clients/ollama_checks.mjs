// Run by node: what Ollama's package for JavaScript sees of a server. Prints one JSON object of outcomes.
// node ollama_checks.mjs http://127.0.0.1:PORT MODEL FILE
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { crc32, deflateSync } from 'node:zlib'
import { Ollama } from 'ollama'
import { gathered, run } from './checking.mjs'

const [BASE, MODEL, FILE] = process.argv.slice(2)
const client = new Ollama({ host: BASE })
const messages = [{ role: 'user', content: 'Where is my order?' }]
const options = { temperature: 0, num_predict: 6 }
const schema = {
  type: 'object',
  properties: { city: { type: 'string', maxLength: 8 }, n: { type: 'integer', minimum: 0, maximum: 9 } },
  required: ['city', 'n'],
  additionalProperties: false,
}

// A PNG file of one colour.
function png(color, side = 32) {
  const chunk = (kind, data) => {
    const body = Buffer.concat([Buffer.from(kind), data])
    const ends = Buffer.alloc(8)
    ends.writeUInt32BE(data.length)
    ends.writeUInt32BE(crc32(body), 4)
    return Buffer.concat([ends.subarray(0, 4), body, ends.subarray(4)])
  }
  const head = Buffer.from([0, 0, 0, side, 0, 0, 0, side, 8, 2, 0, 0, 0])
  const row = Buffer.from([0, ...Array(side).fill(color).flat()])
  const rows = deflateSync(Buffer.concat(Array(side).fill(row)))
  const mark = Buffer.from([0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10])
  return Buffer.concat([mark, chunk('IHDR', head), chunk('IDAT', rows), chunk('IEND', Buffer.alloc(0))])
}

const checks = {
  async check_images() {
    const asked = async (image, model = 'eye') =>
      (await client.chat({ model, messages: [{ role: 'user', content: 'What?', images: [image] }], options })).message
        .content
    const [red, blue] = [png([255, 0, 0]), png([0, 0, 255])]
    assert.equal(await asked(red), await asked(red.toString('base64')))
    assert.notEqual(await asked(red), await asked(blue))
    await assert.rejects(asked(red.subarray(0, 40)), /image/)
    await assert.rejects(asked(red, MODEL), /does not see images/)
  },
  async check_list_and_show() {
    const found = (await client.list()).models.map((model) => model.name)
    assert(found.includes(`${MODEL}:latest`))
    const shown = await client.show({ model: MODEL })
    assert.equal(shown.model_info['general.architecture'], 'llama')
    assert(shown.capabilities.includes('completion'))
    assert((await client.version()).version.match(/^\d+\.\d+\.\d+$/))
  },
  async check_chat_and_stream() {
    const whole = await client.chat({ model: MODEL, messages, options })
    const parts = await gathered(await client.chat({ model: MODEL, messages, options, stream: true }))
    assert.equal(parts.map((part) => part.message.content).join(''), whole.message.content)
    assert.equal(parts.at(-1).done, true)
    assert.equal(parts.at(-1).eval_count, whole.eval_count)
    assert(whole.eval_count <= 6 && whole.prompt_eval_count > 5)
    assert(whole.total_duration >= whole.eval_duration)
    assert(['stop', 'length'].includes(whole.done_reason))
  },
  async check_logprobs() {
    const answer = await client.chat({ model: MODEL, messages, options, logprobs: true, top_logprobs: 3 })
    assert(answer.logprobs.length > 0 && answer.logprobs.length <= answer.eval_count)
    for (const each of answer.logprobs) assert(each.logprob <= 0 && each.top_logprobs.length === 3)
  },
  async check_keep_alive() {
    await client.generate({ model: `org/${MODEL}`, prompt: '', keep_alive: '10m' })
    const loaded = (await client.ps()).models
    assert(loaded.some((found) => found.size > 0 && new Date(found.expires_at) > new Date()))
    const gone = await client.generate({ model: `org/${MODEL}`, prompt: '', keep_alive: 0 })
    assert.equal(gone.done_reason, 'unload')
  },
  async check_generate() {
    const whole = await client.generate({ model: MODEL, prompt: 'a', options })
    const parts = await gathered(await client.generate({ model: MODEL, prompt: 'a', options, stream: true }))
    assert.equal(parts.map((part) => part.response).join(''), whole.response)
  },
  async check_text_before_a_suffix() {
    const asked = { prompt: 'def add(a, b):', suffix: 'return total', options }
    assert((await client.generate({ model: 'coder', ...asked })).done)
    await assert.rejects(client.generate({ model: MODEL, ...asked }), /does not support insert/)
  },
  async check_schema() {
    const answer = await client.chat({ model: MODEL, messages, format: schema, options: { num_predict: 200 } })
    assert.deepEqual(Object.keys(JSON.parse(answer.message.content)).sort(), ['city', 'n'])
  },
  async check_embed() {
    const found = await client.embed({ model: MODEL, input: ['one', 'two'] })
    assert.equal(found.embeddings.length, 2)
    assert((await client.embeddings({ model: MODEL, prompt: 'one' })).embedding.length > 1)
  },
  async check_make_copy_delete() {
    const bytes = readFileSync(FILE)
    const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`
    const sent = await fetch(`${BASE}/api/blobs/${digest}`, { method: 'POST', body: bytes })
    assert([200, 201].includes(sent.status))
    const parts = await gathered(
      await client.create({ model: 'js-made', files: { 'a.gguf': digest }, system: 'Be kind.', stream: true }),
    )
    assert.equal(parts.at(-1).status, 'success')
    await client.copy({ source: 'js-made', destination: 'js-copy' })
    await client.delete({ model: 'js-made' })
    await client.delete({ model: 'js-copy' })
    await assert.rejects(client.show({ model: 'js-made' }), /not found/)
  },
  async check_errors() {
    await assert.rejects(client.chat({ model: 'nope', messages }), (error) => error.status_code === 404)
    await assert.rejects(client.generate({ model: MODEL, prompt: 'a', options: { temperature: 9 } }), /temperature/)
  },
  async check_leaving_midway() {
    const stream = await client.chat({ model: MODEL, messages, options: { ...options, num_predict: 900 }, stream: true })
    await assert.rejects(async () => {
      for await (const part of stream) if (part) stream.abort()
    })
    await client.chat({ model: MODEL, messages, options })
  },
  async check_at_once() {
    const asked = Array.from({ length: 50 }, async () =>
      gathered(await new Ollama({ host: BASE }).chat({ model: MODEL, messages, options, stream: true })),
    )
    const texts = (await Promise.all(asked)).map((parts) => parts.map((part) => part.message.content).join(''))
    assert.equal(new Set(texts).size, 1)
  },
}

await run(checks)
