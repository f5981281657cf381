// Run by node: a model that thinks `hm`, says something and calls two tools. Prints one JSON object of outcomes.
// node ollama_call_checks.mjs http://127.0.0.1:PORT MODEL
import assert from 'node:assert/strict'
import { Ollama } from 'ollama'
import { gathered, run } from './checking.mjs'

const [host, model] = process.argv.slice(2)
const client = new Ollama({ host })
const messages = [{ role: 'user', content: 'What is the weather?' }]
const tools = [{ type: 'function', function: { name: 'weather', parameters: { type: 'object', properties: {} } } }]
const calls = (message) => (message.tool_calls ?? []).map((call) => [call.function.name, call.function.arguments])
const expected = [
  ['weather', { city: 'Ulm' }],
  ['clock', {}],
]

const checks = {
  async check_whole() {
    const { message, done_reason } = await client.chat({ model, messages, tools })
    assert.equal(message.content, 'Let me see.')
    assert.equal(message.thinking, 'hm')
    assert.deepEqual(calls(message), expected)
    assert.equal(done_reason, 'stop')
  },
  async check_streamed() {
    const parts = await gathered(await client.chat({ model, messages, tools, stream: true }))
    assert.deepEqual(parts.flatMap((part) => calls(part.message)), expected)
    assert.equal(parts.map((part) => part.message.content).join(''), 'Let me see.')
    assert.equal(parts.map((part) => part.message.thinking ?? '').join(''), 'hm')
    assert.deepEqual(parts.map((part) => part.done), [...parts.slice(1).map(() => false), true])
  },
  async check_the_answers_of_tools_go_back() {
    const { message } = await client.chat({ model, messages, tools })
    const answers = expected.map(([tool_name]) => ({ role: 'tool', content: 'sunny', tool_name }))
    const next = await client.chat({ model, messages: [...messages, message, ...answers], tools })
    assert.equal(next.message.role, 'assistant')
  },
}

await run(checks)
