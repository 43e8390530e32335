// What ComfyUI's editor sends for workflow files: `node record.mjs JOB.json` (see record.py).

import fs from 'node:fs'
import path from 'node:path'
import { createRequire } from 'node:module'

const job = JSON.parse(fs.readFileSync(process.argv[2]))
const { chromium } = createRequire(path.join(job.playwright, 'x.js'))(
  path.join(job.playwright, 'playwright-core')
)
const browser = await chromium.launch({
  executablePath: job.chromium,
  args: ['--no-sandbox', '--disable-dev-shm-usage']
})
const page = await browser.newPage({ viewport: { width: 1400, height: 900 } })
// Thumbnails, releases and the like come from elsewhere.
await page.route('**/*', (route) =>
  route.request().url().startsWith(job.address) ? route.continue() : route.abort()
)
await page.goto(job.address)
await page.waitForFunction(
  () => window.app?.graph && Object.keys(window.LiteGraph?.registered_node_types ?? {}).length > 50
)
await page.waitForTimeout(2000) // settings and extensions

async function answer(graph) {
  const late = new Promise((_, no) => setTimeout(() => no(new Error('no answer in 60 s')), 60000))
  const ask = async () => {
    const quiet = { showMissingNodesDialog: false, showMissingModelsDialog: false }
    await window.app.loadGraphData(graph, true, true, null, quiet)
    await new Promise((done) => setTimeout(done, 60))
    return { output: JSON.parse(JSON.stringify((await window.app.graphToPrompt()).output)) }
  }
  try {
    return await Promise.race([ask(), late])
  } catch (error) {
    return { error: String(error) }
  }
}

const answers = {}
for (const [name, graph] of Object.entries(job.workflows)) {
  answers[name] = await page.evaluate(answer, graph)
  console.error(name, answers[name].error ?? Object.keys(answers[name].output).length)
}
await browser.close()
fs.writeFileSync(job.out, JSON.stringify(answers))
