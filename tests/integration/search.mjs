// Types into ComfyUI's search boxes and opens help pages, in a headless Chromium: `node search.mjs JOB.json`.
//
// The job names the server, the browser, playwright-core, the searches, and in which languages to ask
// for help on which nodes; the last line of the output is a JSON object with what was seen.
// test_search.py says what it should be.

import fs from 'node:fs'
import path from 'node:path'
import { createRequire } from 'node:module'

const job = JSON.parse(fs.readFileSync(process.argv[2]))
const { chromium } = createRequire(path.join(job.playwright, 'x.js'))(
  path.join(job.playwright, 'playwright-core')
)
const browser = await chromium.launch({ executablePath: job.chromium, args: ['--no-sandbox'] })

async function open(language, others = {}) {
  const page = await browser.newPage({ viewport: { width: 1500, height: 1000 } })
  await page.route('**/settings', async (route) => {
    if (route.request().method() !== 'GET') return route.continue()
    const response = await route.fetch()
    const settings = { ...(await response.json()), ...others, 'Comfy.Locale': language }
    settings['Comfy.TutorialCompleted'] = true
    await route.fulfill({ response, json: settings })
  })
  await page.goto(job.address, { waitUntil: 'domcontentloaded' })
  await page.waitForFunction(
    () => window.app?.graph && window.LiteGraph?.registered_node_types.FacewrightDetectFaces,
    null,
    { timeout: 120000 }
  )
  await page.waitForTimeout(3000)
  await page.evaluate(() => window.app.graph.clear())
  await page.keyboard.press('Escape') // templates, which new users are shown
  await page.waitForTimeout(500)
  return page
}

async function search(page) {
  const found = {}
  await page.mouse.move(700, 700)
  await page.evaluate(() => window.app.extensionManager.command.execute('Workspace.SearchBox.Toggle'))
  await page.locator('input[role=combobox]:focus').waitFor()
  for (const words of job.searches) {
    await page.keyboard.press('Control+A')
    await page.keyboard.type(words)
    await page.waitForTimeout(1500) // results come a little after the last letter
    found[words] = await page.evaluate(() =>
      [...document.querySelectorAll('[role=option]')]
        .map((one) => one.querySelector('.truncate, .option-display-name span:not([class])'))
        .map((name) => name?.textContent.trim())
        .filter(Boolean)
    )
  }
  await page.close()
  return found
}

async function help(language) {
  const page = await open(language)
  const failed = []
  page.on('response', (got) => {
    if (got.status() >= 400 && got.url().includes('/docs/')) failed.push(got.url())
  })
  const pages = {}
  for (const type of job.help) {
    await page.evaluate((type) => {
      window.app.graph.clear()
      const node = window.LiteGraph.createNode(type)
      node.pos = [400, 300]
      window.app.graph.add(node)
      window.app.canvas.selectNode(node)
    }, type)
    await page.waitForTimeout(1000)
    const info = page.locator('[data-testid=info-button], .selection-toolbox button:has(.lucide-info)')
    await info.first().evaluate((button) => button.click()) // it may float outside the window
    const shown = page.locator('.node-help-content')
    await shown.locator('h1').waitFor()
    await page.waitForTimeout(1000)
    pages[type] = {
      text: await shown.innerText(),
      pictures: await shown
        .locator('img')
        .evaluateAll((all) => all.map((one) => one.complete && one.naturalWidth > 0))
    }
  }
  await page.close()
  return { pages, failed }
}

// Values of new nodes, and of the same where a file holds others.
async function fresh() {
  const page = await open('en')
  const values = await page.evaluate(async (saved) => {
    const read = () =>
      window.app.graph.nodes.map((n) => n.widgets.map(({ name, value }) => [name, value]))
    for (const type of Object.keys(saved)) window.app.graph.add(window.LiteGraph.createNode(type))
    const made = read()
    const file = window.app.graph.serialize()
    for (const node of file.nodes) node.widgets_values = saved[node.type]
    await window.app.loadGraphData(file, true, true, 'saved')
    return [made, read()].map((all) => all.map(Object.fromEntries))
  }, job.saved)
  await page.close()
  return values
}

const seen = { version: '', found: {}, help: {} }
let boxes = ['default']
while (boxes.length) {
  const [box, ...others] = boxes
  const page = await open('en', { 'Comfy.NodeSearchBoxImpl': box })
  seen.version = await page.evaluate(() => window.__COMFYUI_FRONTEND_VERSION__)
  const offered = await page.evaluate(() => {
    const app = document.querySelector('#vue-app').__vue_app__
    const settings = app.config.globalProperties.$pinia._s.get('setting').settingsById
    return settings['Comfy.NodeSearchBoxImpl'].options
  })
  seen.found[box] = await search(page)
  // Newer editors have the box of older ones as well; that of LiteGraph knows no phrases.
  boxes = box === 'default' && offered.includes('v1 (legacy)') ? ['v1 (legacy)'] : others
}
for (const language of job.languages) seen.help[language] = await help(language)
seen.fresh = await fresh()
console.log(JSON.stringify(seen))
await browser.close()
