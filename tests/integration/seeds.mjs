// Drives one headless Chromium through seeds and warnings of nodes: `node seeds.mjs JOB.json`.
//
// The job names the server, the browser, playwright-core and the node modes; the last line of the
// output is a JSON object with what was seen. test_seeds.py says what it should be.

import fs from 'node:fs'
import path from 'node:path'
import { createRequire } from 'node:module'

const job = JSON.parse(fs.readFileSync(process.argv[2]))
const { chromium } = createRequire(path.join(job.playwright, 'x.js'))(
  path.join(job.playwright, 'playwright-core')
)

// Runs in the page, after each load of it.
const helpers = () => {
  const app = window.app
  const quiet = (ms) => new Promise((done) => setTimeout(done, ms))
  const root = () => app.rootGraph ?? app.graph
  const all = (graph) =>
    graph.nodes.flatMap((node) => [node, ...(node.subgraph ? all(node.subgraph) : [])])
  const find = (type) => all(root()).find((node) => node.type === type)
  const widget = (node, name) => node?.widgets.find((w) => w.name === name)
  const kept = (node) => ['seed', 'control_after_generate'].map((name) => widget(node, name)?.value)

  function make(type, pos) {
    const node = window.LiteGraph.createNode(type)
    node.pos = pos
    root().add(node)
    return node
  }

  const open = async (graph) => {
    await app.loadGraphData(graph, true, true, null)
    await quiet(900)
  }
  const saved = () => JSON.parse(JSON.stringify(root().serialize()))
  const empty = () =>
    open({ ...saved(), nodes: [], links: [], groups: [], definitions: undefined })

  function fresh(types) {
    return Object.fromEntries(types.map((type, i) => [type, kept(make(type, [i * 450, 0]))[1]]))
  }

  // What a node has after a file with these values was opened, the node copied, an edit taken back.
  async function given(type, control) {
    await empty()
    const node = make(type, [0, 0])
    widget(node, 'seed').value = 7
    widget(node, 'control_after_generate').value = control
    await open(saved())
    const opened = kept(find(type))
    app.canvas.selectNode(find(type))
    app.canvas.copyToClipboard()
    app.canvas.pasteFromClipboard()
    const copied = kept(root().nodes.filter((n) => n.type === type)[1])
    const tracker = app.extensionManager.workflow.activeWorkflow.changeTracker
    const look = () => (tracker.captureCanvasState ?? tracker.checkState).call(tracker)
    look()
    find(type).pos[1] += 30
    look()
    await tracker.undo()
    await quiet(900)
    const undone = kept(find(type))
    if (!root().convertToSubgraph) return { opened, copied, undone }
    root().convertToSubgraph(new Set([find(type)]))
    await quiet(600)
    return { opened, copied, undone, inside: kept(find(type)) }
  }

  async function build() {
    await empty()
    const nano = make('FacewrightLoadNano', [0, 0])
    const demo = make('FacewrightDemoPicture', [0, 250])
    const detect = make('FacewrightDetectFaces', [400, 0])
    const encode = make('FacewrightVREEncode', [800, 0])
    const restore = make('FacewrightOneStepRestore', [1200, 0])
    const preview = make('PreviewImage', [1600, 0])
    widget(detect, 'crop_size').value = 128
    const wires = [
      [demo, 0, detect, 'image'],
      [nano, 3, detect, 'analyzer'],
      [nano, 2, encode, 'vre'],
      [detect, 1, encode, 'image'],
      [nano, 0, restore, 'model'],
      [nano, 1, restore, 'vae'],
      [encode, 0, restore, 'conditioning'],
      [detect, 1, restore, 'image'],
      [restore, 0, preview, 'images']
    ]
    for (const [from, output, to, name] of wires) {
      from.connect(output, to, to.inputs.findIndex((input) => input.name === name))
    }
    await quiet(500)
  }

  async function run({ weights, picture }) {
    widget(find('FacewrightLoadNano'), 'weights').value = weights
    widget(find('FacewrightDemoPicture'), 'picture').value = picture
    const over = new Promise((done) => {
      for (const event of ['execution_success', 'execution_error', 'execution_interrupted']) {
        app.api.addEventListener(event, () => done(event), { once: true })
      }
      setTimeout(done, 120000)
    })
    await app.queuePrompt(0)
    const event = await over
    await quiet(1500) // the editor puts the job away
    const restore = find('FacewrightOneStepRestore')
    // Older servers say nothing of nodes before the end of a graph whose results they remember.
    const [image] = app.nodeOutputs[find('FacewrightDetectFaces').id]?.images ?? []
    const shown = new Image()
    if (image) {
      shown.src = app.api.apiURL(`/view?${new URLSearchParams(image)}`)
      await shown.decode()
    }
    return {
      event,
      warning: widget(restore, 'facewright_result')?.value ?? '',
      kept: restore.properties.facewright_result ?? '',
      seed: kept(restore),
      size: image ? [shown.naturalWidth, shown.naturalHeight] : null
    }
  }

  window.seeds = { build, empty, fresh, given, run }
}

const browser = await chromium.launch({
  executablePath: job.chromium,
  args: ['--no-sandbox', '--disable-dev-shm-usage']
})
const seen = {}

for (const mode of job.modes) {
  const context = await browser.newContext({ viewport: { width: 1800, height: 1300 } })
  const page = await context.newPage()
  const faults = []
  page.on('pageerror', (error) => faults.push(String(error)))
  const at = (fn, given) => page.evaluate(fn, given)

  async function enter() {
    await page.goto(job.address)
    await page.waitForFunction(
      () => window.app?.graph && Object.keys(window.LiteGraph?.registered_node_types ?? {}).length > 50
    )
    await page.waitForFunction(() => document.querySelector('#vue-app')?.__vue_app__)
    await page.waitForTimeout(2500)
    await page.evaluate(helpers)
  }

  await enter()
  const offered = await at(async (mode) => {
    const { setting } = app.extensionManager
    const vue = setting.settings['Comfy.VueNodes.Enabled']
    if (vue) await setting.set('Comfy.VueNodes.Enabled', mode === 'vue')
    return mode === 'classic' || Boolean(vue && vue.type !== 'hidden')
  }, mode)
  if (!offered) {
    await context.close()
    continue
  }
  await enter()

  const answer = (seen[mode] = { faults, given: {}, runs: [] })
  await at(() => window.seeds.empty())
  answer.fresh = await at((types) => window.seeds.fresh(types), job.fresh)
  for (const [type, control] of job.given) {
    answer.given[`${type} ${control}`] = await at(
      ([type, control]) => window.seeds.given(type, control),
      [type, control]
    )
  }
  await at(() => window.seeds.build())
  for (const run of job.runs) answer.runs.push(await at((run) => window.seeds.run(run), run))
  await context.close()
}
await browser.close()
console.log(JSON.stringify(seen))
