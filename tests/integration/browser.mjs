// Drives one headless Chromium through ComfyUI's editor: `node browser.mjs JOB.json`.
//
// The job names the server, the browser, playwright-core, and what to look at; the last line of the
// output is a JSON object with what was seen. test_browser.py says what it should be.

import fs from 'node:fs'
import path from 'node:path'
import { createRequire } from 'node:module'

const job = JSON.parse(fs.readFileSync(process.argv[2]))
const { chromium } = createRequire(path.join(job.playwright, 'x.js'))(
  path.join(job.playwright, 'playwright-core')
)

// Runs in the page, once: what the functions below need.
const helpers = () => {
  const app = window.app
  const text = document.createElement('canvas').getContext('2d')
  const quiet = (ms) => new Promise((done) => setTimeout(done, ms))
  let sizes = new Map()
  const frame = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))

  // Newer editors keep what is missing in these stores, and draw it red.
  const pinia = document.querySelector('#vue-app').__vue_app__.config.globalProperties.$pinia
  const store = (id) => pinia._s.get(id)

  async function open(graph, name) {
    await app.loadGraphData(graph, true, true, name)
    sizes = new Map(app.graph.nodes.map((node) => [node.id, [...node.size]]))
    await quiet(700) // missing files are looked for after loading
    await frame()
  }

  function missing() {
    const models = store('missingModel')?.missingModelCandidates ?? []
    const media = store('missingMedia')?.missingMediaCandidates ?? []
    const nodes = store('missingNodesError')?.missingNodesError?.nodeTypes ?? []
    return {
      nodes: nodes.map((n) => n.type ?? n),
      files: [...models, ...media]
        .filter((m) => m.isMissing)
        .map((m) => [m.nodeType, m.widgetName, m.name]),
      unregistered: app.graph.nodes
        .map((n) => n.type)
        .filter((t) => !(t in window.LiteGraph.registered_node_types)),
      red: app.graph.nodes.flatMap((n) =>
        [n.has_errors && n.type, ...n.inputs.filter((i) => i.hasErrors).map((i) => i.name)].filter(
          Boolean
        )
      )
    }
  }

  // As the editor draws them: 14 pixels, label and value in one line between two arrows.
  function cutOff(node) {
    text.font = `${window.LiteGraph.NODE_SUBTEXT_SIZE ?? 12}px ${window.LiteGraph.NODE_FONT ?? 'Arial'}`
    const width = (t) => text.measureText(t ?? '').width
    const widgets = (node.widgets ?? []).filter(
      (w) => ['combo', 'number', 'string', 'text'].includes(w.type) && !w.hidden
    )
    const lines = widgets.map((w) => {
      const shown = String(w._displayValue ?? w.value ?? '')
      return [w.name, width(w.label ?? w.name) + width(shown) + 90]
    })
    const slots = Math.max(node.inputs.length, node.outputs.length)
    for (let i = 0; i < slots; i++) {
      const sockets = node.inputs.filter((s) => !s.widget)
      const [a, b] = [sockets[i], node.outputs[i]].map((s) => s?.label ?? s?.localized_name ?? s?.name)
      lines.push([`${a ?? ''} / ${b ?? ''}`, width(a) + width(b) + 50])
    }
    return lines.filter(([, wanted]) => wanted > node.size[0]).map(([name, w]) => [name, Math.ceil(w)])
  }

  function untidy() {
    return app.graph.nodes.flatMap((node) => {
      const [w, h] = node.computeSize()
      const small = w > node.size[0] + 1 || h > node.size[1] + 1 ? [[w, h]] : []
      const cut = cutOff(node)
      return small.length || cut.length ? [{ node: node.title, size: [...node.size], small, cut }] : []
    })
  }

  function bounds() {
    const items = [...app.graph.nodes, ...app.graph.groups].map((i) => [...i.boundingRect])
    const left = Math.min(...items.map((r) => r[0])) - 20
    const top = Math.min(...items.map((r) => r[1])) - 20
    const right = Math.max(...items.map((r) => r[0] + r[2])) + 20
    const bottom = Math.max(...items.map((r) => r[1] + r[3])) + 20
    return [left, top, right - left, bottom - top]
  }

  async function fit() {
    const { canvas } = app
    const [x, y, w, h] = bounds()
    const view = canvas.canvas.getBoundingClientRect()
    canvas.ds.scale = Math.min(view.width / w, view.height / h)
    canvas.ds.offset[0] = -x
    canvas.ds.offset[1] = -y
    canvas.setDirty(true, true)
    await quiet(300)
    await frame()
    const { scale } = canvas.ds
    return { scale, clip: { x: view.x, y: view.y, width: w * scale, height: h * scale } }
  }

  // What nodes show: pictures that have arrived, and where they are on screen.
  function shown() {
    const { scale, offset } = app.canvas.ds
    return app.graph.nodes.map((node) => {
      const strip = (node.widgets ?? []).find((w) => w.name === '$$canvas-image-preview')
      const top = node.pos[1] + (strip?.y ?? 0)
      return {
        id: String(node.id),
        type: node.type,
        title: node.title,
        pictures: (node.imgs ?? []).map((i) => [i.naturalWidth, i.naturalHeight]),
        video: Boolean(node.videoContainer?.querySelector('video')?.videoWidth),
        urls: (node.imgs ?? []).map((i) => i.src),
        text: (node.widgets ?? [])
          .filter((w) => w.name?.startsWith('preview') && typeof w.value === 'string')
          .map((w) => w.value)
          .join('\n'),
        // Below the pictures stands their size, 15 pixels high.
        box: [
          (node.pos[0] + offset[0]) * scale,
          (top + offset[1]) * scale,
          node.size[0] * scale,
          (node.pos[1] + node.size[1] - top - 15) * scale
        ]
      }
    })
  }

  async function run(seconds) {
    // Nodes that the server has cached show nothing.
    await app.api.fetchApi('/free', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ free_memory: true })
    })
    await quiet(1000) // it is done between two prompts
    const events = ['execution_success', 'execution_error', 'execution_interrupted']
    const over = new Promise((done) => {
      for (const event of events) app.api.addEventListener(event, ({ detail }) => done([event, detail]), { once: true })
      setTimeout(() => done(['timeout', null]), seconds * 1000)
    })
    if ((await app.queuePrompt(0)) === false) return ['refused', null]
    const [event, detail] = await over
    await quiet(1500) // pictures are fetched afterwards
    return [event, detail?.exception_message ?? null]
  }

  // Nodes that became larger than they were saved, as those do that have no room for their picture.
  function grown() {
    return app.graph.nodes
      .filter((node) => ['0', '1'].some((side) => node.size[side] > sizes.get(node.id)[side] + 1))
      .map((node) => [node.title, sizes.get(node.id), [...node.size]])
  }

  async function empty(name) {
    const { workflow } = await app.graphToPrompt()
    await open({ ...workflow, nodes: [], links: [], groups: [], definitions: {} }, name)
    app.nodeOutputs = {}
  }

  async function fresh(types) {
    await empty('fresh')
    const sizes = {}
    let [x, y, tallest] = [0, 0, 0]
    for (const type of types) {
      const node = window.LiteGraph.createNode(type)
      app.graph.add(node)
      if (x + node.size[0] > 2600) [x, y, tallest] = [0, y + tallest + 70, 0]
      node.pos = [x, y]
      x += node.size[0] + 30
      tallest = Math.max(tallest, node.size[1])
      sizes[type] = { size: [...node.size], cut: cutOff(node), colour: node.color ?? null }
    }
    await frame()
    return sizes
  }

  // A blueprint as the node library drops it, between other nodes: [kind, {widget: value}], linked by
  // [from, output, to, input], where a node is its place in the list or null for the blueprint.
  async function drop({ name, nodes, links, widgets }) {
    await empty(name)
    const known = store('nodeDef')
      .nodeDefs.filter((d) => d.name.startsWith('SubgraphBlueprint.') && d.display_name === name)
      .map((d) => d.name)
    if (!known.length) return { known }
    const { nodes: own, definitions } = store('subgraph').getBlueprint(known[0])
    const dropped = app.canvas._deserializeItems(
      { nodes: own, subgraphs: definitions.subgraphs },
      { position: [450, 0] }
    )
    const whole = [...dropped.nodes.values()][0]
    const fill = (node, values) => {
      for (const [key, value] of Object.entries(values)) {
        const widget = node.widgets.find((w) => w.name === key)
        widget.value = value
        widget.callback?.(value)
      }
    }
    const others = nodes.map(([kind, values, pos, size]) => {
      const node = window.LiteGraph.createNode(kind)
      node.pos = pos
      app.graph.add(node)
      fill(node, values)
      node.setSize(size)
      return node
    })
    const at = (place) => (place === null ? whole : others[place])
    for (const [from, output, to, input] of links) {
      at(from).connect(output, at(to), at(to).inputs.findIndex((i) => i.name === input))
    }
    const ports = (list) => list.map((port) => [port.name, port.type])
    const answer = {
      known,
      type: whole.constructor.name,
      inputs: ports(whole.inputs),
      outputs: ports(whole.outputs),
      widgets: whole.widgets.map((w) => [w.name, w.value])
    }
    fill(whole, widgets)
    await quiet(300)
    return { ...answer, missing: missing(), untidy: untidy(), api: (await app.graphToPrompt()).output }
  }

  window.seen = { drop, grown, open, missing, untidy, fit, shown, run, fresh, frame, quiet, store }
}

const browser = await chromium.launch({
  executablePath: job.chromium,
  args: ['--no-sandbox', '--disable-dev-shm-usage']
})
const page = await browser.newPage({ viewport: { width: 2400, height: 1500 } })
const faults = []
page.on('pageerror', (error) => faults.push(String(error)))
await page.goto(job.address)
await page.waitForFunction(
  () => window.app?.graph && Object.keys(window.LiteGraph?.registered_node_types ?? {}).length > 50
)
await page.waitForFunction(() => document.querySelector('#vue-app')?.__vue_app__)
const seen = { workflows: {}, faults }

async function shot(name) {
  const { scale, clip } = await page.evaluate(() => window.seen.fit())
  await page.screenshot({ path: path.join(job.out, `${name}.png`), clip })
  return { scale, clip }
}

await page.evaluate(helpers)
if (job.templates) {
  await page.evaluate(() => window.app.extensionManager.command.execute('Comfy.BrowseTemplates'))
  await page.getByText('facewright', { exact: true }).first().click()
  await page.waitForSelector('[role=dialog] [data-testid^=template-workflow-]')
  await page.waitForTimeout(1500)
  // Cards come and load their pictures where they are scrolled to.
  seen.templates = await page.evaluate(async () => {
    const found = {}
    const name = (card) => card.dataset.testid.replace('template-workflow-', '')
    for (let calm = 0; calm < 8; calm += 1, await window.seen.quiet(250)) {
      const cards = [...document.querySelectorAll('[role=dialog] [data-testid^=template-workflow-]')]
      for (const card of cards) {
        const picture = card.querySelector('img')
        if (name(card) in found || !picture?.naturalWidth) continue
        found[name(card)] = (await (await fetch(picture.src)).blob()).size
        calm = 0
      }
      const next = cards.find((card) => !(name(card) in found)) ?? cards.at(-1)
      next?.scrollIntoView()
    }
    return found
  })
  await page.screenshot({ path: path.join(job.out, 'templates.png') })
  await page.keyboard.press('Escape')
}
await page.evaluate(async (settings) => {
  for (const [key, value] of Object.entries(settings)) {
    await window.app.extensionManager.setting.set(key, value)
  }
}, { 'Comfy.Minimap.Visible': false, 'LiteGraph.Canvas.MinFontSizeForLOD': 0, 'Comfy.Graph.CanvasInfo': false })

// The canvas and what lies on it (notes, texts), without the menus in front.
await page.addStyleTag({
  content: `body * { visibility: hidden }
    #graph-canvas, .dom-widget, .dom-widget * { visibility: visible !important }`
})

for (const task of job.workflows) {
  const answer = await page.evaluate(async ({ name, url }) => {
    const graph = await (await fetch(url)).json()
    await window.seen.open(graph, name)
    return {
      missing: window.seen.missing(),
      untidy: window.seen.untidy(),
      api: (await window.app.graphToPrompt()).output
    }
  }, task)
  if (task.run) answer.ran = await page.evaluate((s) => window.seen.run(s), task.run)
  answer.grown = await page.evaluate(() => window.seen.grown())
  Object.assign(answer, await shot(task.name))
  answer.shown = await page.evaluate(() => window.seen.shown())
  seen.workflows[task.name] = answer
}

seen.blueprints = {}
for (const task of job.blueprints ?? []) {
  const answer = await page.evaluate((given) => window.seen.drop(given), task)
  if (answer.known.length) {
    answer.ran = await page.evaluate((s) => window.seen.run(s), task.run)
    Object.assign(answer, await shot(task.name.replaceAll(' ', '_')))
    answer.shown = await page.evaluate(() => window.seen.shown())
  }
  seen.blueprints[task.name] = answer
}

if (job.fresh) {
  seen.fresh = await page.evaluate((types) => window.seen.fresh(types), job.fresh)
  await shot('fresh')
}
await browser.close()
console.log(JSON.stringify(seen))
