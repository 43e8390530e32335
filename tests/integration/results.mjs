// Drives one headless Chromium through the results that nodes show: `node results.mjs JOB.json`.
//
// The job names the server, the browser, playwright-core, the node modes and where screenshots go; the
// last line of the output is a JSON object with what was seen. test_results.py says what it should be.

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
  const frame = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))
  const root = () => app.rootGraph ?? app.graph
  const tabs = () => app.extensionManager.workflow
  const saved = (graph) => JSON.parse(JSON.stringify(graph.serialize()))
  const boxOf = (node) => (node?.widgets ?? []).find((w) => w.name === 'facewright_result')
  const all = (graph) =>
    graph.nodes.flatMap((node) => [node, ...(node.subgraph ? all(node.subgraph) : [])])
  const find = (type) => all(root()).find((node) => node.type === `Facewright${type}`)

  // The editor compares the graph with what it was, as after a click.
  function look() {
    const tracker = tabs().activeWorkflow.changeTracker
    tracker.captureCanvasState ? tracker.captureCanvasState() : tracker.checkState()
  }

  function make(type, pos) {
    const node = window.LiteGraph.createNode(`Facewright${type}`)
    node.pos = pos
    root().add(node)
    node.setSize([340, 320])
    return node
  }

  async function open(graph) {
    await app.loadGraphData(graph, true, true, null)
    await quiet(900)
  }

  async function build() {
    await open({ ...saved(root()), nodes: [], links: [], groups: [], definitions: undefined })
    make('Doctor', [40, 60])
    const demo = make('DemoPicture', [40, 440])
    const score = make('ImageScore', [420, 60])
    score.setSize([400, 600])
    demo.connect(0, score, 0)
    for (const [output, name] of [[1, 'gt'], [0, 'lq']]) {
      demo.connect(output, score, score.inputs.findIndex((i) => i.name === name))
    }
    const nano = make('LoadNanoHonestface', [40, 840])
    const like = make('IdentityScore', [860, 60])
    demo.connect(0, like, 0)
    demo.connect(1, like, 1)
    for (const [output, name] of [[5, 'recogniser'], [4, 'analyzer']]) {
      nano.connect(output, like, like.inputs.findIndex((i) => i.name === name))
    }
    await quiet(500)
    await app.graphToPrompt() // numbers the nodes in the order of a run
    look()
    await quiet(300)
  }

  const metrics = (value) => {
    const widget = find('ImageScore').widgets.find((w) => w.name === 'metrics')
    widget.value = value
  }

  // As many jobs as there are lists of metrics, queued at once.
  async function run(lists) {
    const ids = []
    const over = new Promise((done) => {
      let left = lists.length
      const seen = (event) => ({ detail }) => {
        ids.push([event, detail.prompt_id])
        if (!--left) done()
      }
      for (const e of ['execution_success', 'execution_error']) app.api.addEventListener(e, seen(e))
      setTimeout(done, 120000)
    })
    for (const list of lists) {
      if (list) metrics(list)
      await app.queuePrompt(0)
    }
    await over
    await quiet(2500) // the editor puts the job away
    const told = []
    for (const [event, id] of ids) {
      const entry = (await (await app.api.fetchApi(`/history/${id}`)).json())[id]
      const classes = Object.entries(entry.prompt[2]).map(([key, node]) => [key, node.class_type])
      const outputs = classes.map(([key, type]) => [type, entry.outputs[key]?.text?.join('\n')])
      told.push({
        event,
        texts: Object.fromEntries(outputs.filter(([, text]) => text)),
        workflow: JSON.stringify(entry.prompt[3].extra_pnginfo.workflow)
      })
    }
    return told
  }

  // What the nodes say, and what of it is on screen.
  async function shown() {
    await frame()
    await quiet(300)
    return Object.fromEntries(
      all(root())
        .filter(boxOf)
        .map((node) => {
          const areas = [...document.querySelectorAll('textarea')].filter(
            (area) => area.value === boxOf(node).value && area.getBoundingClientRect().width
          )
          const [area] = areas
          const own = node.computeSize()
          return [
            node.type,
            {
              text: boxOf(node).value,
              boxes: areas.length,
              readOnly: area?.readOnly,
              height: area?.clientHeight,
              whole: area?.scrollHeight,
              wraps: area && getComputedStyle(area).whiteSpace,
              room: own[0] <= node.size[0] + 1 && own[1] <= node.size[1] + 1
            }
          ]
        })
    )
  }

  // How many pictures the editor has of each of our nodes.
  const pictures = () => {
    const counts = Object.entries(app.nodeOutputs).map(([id, output]) => [
      root().getNodeById(id)?.type,
      output?.images?.length
    ])
    return Object.fromEntries(counts.filter(([, count]) => count))
  }

  const state = async () => {
    const { output, workflow } = await app.graphToPrompt()
    return {
      api: output,
      values: workflow.nodes.map((n) => [n.type, n.widgets_values]),
      sizes: workflow.nodes.map((n) => n.size),
      kept: workflow.nodes.filter((n) => n.properties.facewright_result).map((n) => n.type),
      modified: tabs().activeWorkflow.isModified,
      undo: tabs().activeWorkflow.changeTracker.undoQueue.length
    }
  }

  async function to(path) {
    for (let i = 0; i < 9 && tabs().activeWorkflow.path !== path; i++) {
      await app.extensionManager.command.execute('Workspace.PreviousOpenedWorkflow')
      await quiet(1500)
    }
  }

  window.results = { build, find, frame, look, make, metrics, open, pictures, quiet, root, run, saved, shown, state, tabs, to, boxOf }
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

  async function enter() {
    await page.goto(job.address)
    await page.waitForFunction(
      () => window.app?.graph && Object.keys(window.LiteGraph?.registered_node_types ?? {}).length > 50
    )
    await page.waitForFunction(() => document.querySelector('#vue-app')?.__vue_app__)
    await page.waitForTimeout(2500)
    await page.evaluate(helpers)
  }
  const at = (fn, given) => page.evaluate(fn, given)
  const shot = async (name) => {
    await at(() => {
      app.canvas.ds.scale = 1
      app.canvas.ds.offset = [60, 60]
      app.canvas.setDirty(true, true)
    })
    await page.waitForTimeout(500)
    await page.screenshot({ path: path.join(job.out, `results_${mode}_${name}.png`) })
  }

  await enter()
  // An editor may know Vue nodes before it offers them.
  const offered = await at(async (mode) => {
    const { setting } = app.extensionManager
    await setting.set('Comfy.Minimap.Visible', false)
    const vue = setting.settings['Comfy.VueNodes.Enabled']
    if (vue) await setting.set('Comfy.VueNodes.Enabled', mode === 'vue')
    return mode === 'classic' || Boolean(vue && vue.type !== 'hidden')
  }, mode)
  if (!offered) {
    await context.close()
    continue
  }
  await enter()

  const answer = (seen[mode] = { faults })
  await at(() => window.results.build())
  answer.before = await at(() => window.results.state())
  answer.told = await at(() => window.results.run([null]))
  answer.after = await at(() => window.results.state())
  answer.shown = await at(() => window.results.shown())
  answer.pictures = await at(() => window.results.pictures())
  await shot('after')

  // A look elsewhere and back.
  await page.mouse.click(1500, 1100)
  answer.clicked = await at(() => window.results.state())
  const file = await at(() => window.results.saved(window.results.root()))
  const first = await at(() => window.results.tabs().activeWorkflow.path)
  await at((graph) => window.results.open(graph), file)
  answer.opened = await at(() => window.results.shown())
  await at((path) => window.results.to(path), first)
  answer.back = await at(() => window.results.shown())

  // An edit, taken back and made again.
  answer.undone = await at(async () => {
    const { find, look, quiet, shown, tabs } = window.results
    const tracker = tabs().activeWorkflow.changeTracker
    const top = () => Math.round(find('DemoPicture').pos[1])
    const seen = { from: top() }
    find('DemoPicture').pos[1] += 30
    look()
    await quiet(300)
    await tracker.undo()
    await quiet(900)
    Object.assign(seen, { undone: top(), shown: await shown() })
    look()
    await tracker.redo()
    await quiet(900)
    return { ...seen, redone: top(), again: await shown() }
  })

  // Three jobs at once, each with an own text.
  answer.queued = await at(() => window.results.run(['psnr', 'ssim', 'edges, ssim']))
  answer.last = await at(() => window.results.shown())

  // Another tab in front while its job runs: a copy of the same workflow.
  answer.elsewhere = await at(async () => {
    const { find, boxOf, metrics, quiet, saved, root, tabs, to } = window.results
    const own = tabs().activeWorkflow.path
    const names = ['ssim', 'edges', 'psnr']
    const pairs = names.flatMap((a) => names.filter((b) => b !== a).map((b) => `${a}, ${b}`))
    const all = pairs.map((pair) => `${pair}, ${names.find((name) => !pair.includes(name))}`)
    const lists = [...all, ...pairs, ...names, 'psnr, edges'] // still at it when the copy is open
    let left = lists.length
    const over = new Promise((done) => {
      app.api.addEventListener('execution_success', () => --left || done())
    })
    const copy = saved(root())
    for (const list of lists) {
      metrics(list)
      await app.queuePrompt(0)
    }
    await app.loadGraphData(copy, true, true, null)
    const busy = left
    const before = boxOf(find('ImageScore')).value
    await Promise.race([over, quiet(60000)])
    await quiet(1500)
    const there = boxOf(find('ImageScore')).value
    await to(own)
    return { busy, before, there, here: boxOf(find('ImageScore')).value }
  })

  // Text is text, and not all of a long one is kept.
  answer.hostile = await at(async () => {
    const node = window.results.find('ImageScore')
    node.onExecuted({ text: ['<img id="hostile" src="x">\n{{ 1 + 1 }}'] })
    node.onExecuted({})
    await window.results.quiet(500)
    const seen = [document.querySelectorAll('#hostile').length, window.results.boxOf(node).value]
    node.onExecuted({ text: [Array.from({ length: 5000 }, (_, i) => `picture ${i}`).join('\n')] })
    await window.results.quiet(500)
    const lines = window.results.boxOf(node).value.split('\n').length
    return [...seen, lines, node.properties.facewright_result.split('\n')]
  })

  // In a subgraph, where there are any, and after the page was loaded anew.
  answer.subgraph = await at(async () => {
    const { find, quiet, root, run, shown } = window.results
    if (!root().convertToSubgraph) return null
    root().convertToSubgraph(new Set([find('ImageScore')]))
    await quiet(600)
    const told = await run(['psnr, ssim'])
    window.results.look()
    return { told, shown: await shown() }
  })
  await page.waitForTimeout(2500)
  await enter()
  answer.reloaded = await at(() => window.results.shown())
  await context.close()
}
await browser.close()
console.log(JSON.stringify(seen))
