// Run by node: what OpenAI's package for JavaScript sees of the Responses API. Prints one JSON object of outcomes.
// node openai_responses_checks.mjs http://127.0.0.1:PORT/v1 MODEL
import assert from 'node:assert/strict'
import OpenAI from 'openai'
import { gathered, run } from './checking.mjs'

const [baseURL, model] = process.argv.slice(2)
const client = new OpenAI({ baseURL, apiKey: 'none', maxRetries: 0, timeout: 60_000 })
const input = 'Where is my order?'
const short = { model, input, max_output_tokens: 6, temperature: 0, logit_bias: { 0: -100, 2: -100 } }
const schema = {
  type: 'object',
  properties: { city: { type: 'string', maxLength: 8 }, n: { type: 'integer', minimum: 0, maximum: 9 } },
  required: ['city', 'n'],
  additionalProperties: false,
}
const weather = { type: 'function', name: 'weather', description: 'of a city', parameters: schema, strict: true }

const checks = {
  async check_create() {
    const { data, response } = await client.responses.create(short).withResponse()
    assert.equal(response.status, 200)
    assert.equal(data.status, 'incomplete')
    assert.equal(data.incomplete_details.reason, 'max_output_tokens')
    assert(data.output_text.length > 0)
    assert.equal(data.usage.output_tokens, 6)
  },
  async check_stream() {
    const whole = await client.responses.create(short)
    const events = await gathered(await client.responses.create({ ...short, stream: true }))
    const text = events.filter((event) => event.type === 'response.output_text.delta').map((event) => event.delta)
    assert.equal(text.join(''), whole.output_text)
    assert.deepEqual(
      events.map((event) => event.sequence_number),
      events.map((_, place) => place),
    )
    assert.deepEqual(
      [events[0].type, events[1].type, events.at(-1).type],
      ['response.created', 'response.in_progress', 'response.incomplete'],
    )
  },
  async check_stream_helper() {
    const form = { type: 'json_schema', name: 'place', schema, strict: true }
    const stream = client.responses.stream({ model, input, temperature: 0, text: { format: form } })
    const heard = []
    stream.on('response.output_text.delta', (event) => heard.push(event.delta))
    const final = await stream.finalResponse()
    assert.equal(final.output_text, heard.join(''))
    assert.deepEqual(Object.keys(JSON.parse(final.output_text)).sort(), ['city', 'n'])
  },
  async check_parse() {
    const form = { type: 'json_schema', name: 'place', schema, strict: true }
    const answer = await client.responses.parse({ model, input, temperature: 0, text: { format: form } })
    assert.equal(typeof answer.output_parsed.city, 'string')
  },
  async check_tools_round_trip() {
    const asked = { model, temperature: 0, tools: [weather] }
    const first = await client.responses.create({ ...asked, input, tool_choice: 'required' })
    const [call] = first.output
    assert.equal(call.type, 'function_call')
    assert.deepEqual(Object.keys(JSON.parse(call.arguments)).sort(), ['city', 'n'])
    const output = { type: 'function_call_output', call_id: call.call_id, output: 'sunny' }
    const rest = { model, temperature: 0, max_output_tokens: 5 }
    const second = await client.responses.create({ ...rest, input: [output], previous_response_id: first.id })
    const own = [{ role: 'user', content: input }, ...first.output, output]
    const third = await client.responses.create({ ...rest, input: own, store: false })
    assert.equal(second.output_text, third.output_text)
  },
  async check_tool_stream() {
    const stream = client.responses.stream({ model, input, temperature: 0, tools: [weather], tool_choice: 'required' })
    const pieces = []
    stream.on('response.function_call_arguments.delta', (event) => pieces.push(event.delta))
    const final = await stream.finalResponse()
    assert.equal(final.output[0].arguments, pieces.join(''))
  },
  async check_conversation() {
    const first = await client.responses.create(short)
    const second = await client.responses.create({ ...short, input: 'And now?', previous_response_id: first.id })
    const listed = await gathered(client.responses.inputItems.list(second.id, { order: 'asc', limit: 2 }))
    assert.deepEqual(
      listed.map((item) => item.role),
      ['user', 'assistant', 'user'],
    )
    const counted = await client.responses.inputTokens.count({
      model,
      input: 'And now?',
      previous_response_id: first.id,
    })
    assert.equal(counted.input_tokens, second.usage.input_tokens)
  },
  async check_retrieve_and_delete() {
    const answer = await client.responses.create(short)
    assert.deepEqual(await client.responses.retrieve(answer.id), answer)
    await assert.rejects(client.responses.cancel(answer.id), OpenAI.BadRequestError)
    await client.responses.delete(answer.id)
    await assert.rejects(client.responses.retrieve(answer.id), OpenAI.NotFoundError)
    await assert.rejects(client.responses.inputItems.list(answer.id), OpenAI.NotFoundError)
  },
  async check_logprobs() {
    const include = ['message.output_text.logprobs']
    const answer = await client.responses.create({ ...short, include, top_logprobs: 2 })
    const { logprobs } = answer.output[0].content[0]
    assert(logprobs.length > 0)
    assert(logprobs.every((token) => token.logprob <= 0 && token.top_logprobs.length === 2))
  },
  async check_errors() {
    const asked = (more) => client.responses.create({ ...short, ...more })
    await assert.rejects(asked({ model: 'nobody', stream: true }), (error) => error.code === 'model_not_found')
    await assert.rejects(
      asked({ previous_response_id: 'resp_1' }),
      (error) => error instanceof OpenAI.BadRequestError && error.code === 'previous_response_not_found',
    )
    await assert.rejects(
      asked({ tools: [{ type: 'web_search' }] }),
      (error) => error instanceof OpenAI.BadRequestError && error.param === 'tools',
    )
  },
  async check_leaving_midway() {
    const stream = await client.responses.create({ ...short, max_output_tokens: 900, stream: true })
    for await (const event of stream) if (event.type === 'response.output_text.delta') break
    assert.equal(stream.controller.signal.aborted, true)
    await client.responses.create(short)
  },
  async check_at_once() {
    const ask = async () => (await gathered(await client.responses.create({ ...short, stream: true }))).at(-1)
    const last = await Promise.all(Array.from({ length: 50 }, ask))
    assert.equal(new Set(last.map((event) => event.response.output[0].content[0].text)).size, 1)
    const kept = await Promise.all(last.map((event) => client.responses.retrieve(event.response.id)))
    assert.equal(new Set(kept.map((response) => response.id)).size, 50)
  },
}

await run(checks)
