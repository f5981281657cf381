// Run by node, beside the checks of a client: what each of them found. Prints one JSON object.
export async function gathered(stream) {
  const parts = []
  for await (const part of stream) parts.push(part)
  return parts
}

export async function run(checks) {
  const outcomes = {}
  for (const [name, check] of Object.entries(checks)) {
    try {
      await check()
      outcomes[name] = ''
    } catch (error) {
      outcomes[name] = String(error.stack)
    }
  }
  console.log(JSON.stringify(outcomes))
}
