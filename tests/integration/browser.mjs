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
    const saved = new Map(graph.nodes.map((node) => [String(node.id), [...node.size]]))
    await app.loadGraphData(graph, true, true, name)
    // Nodes whose widgets come with their values are made small, and large again when they have run.
    const room = (node) => saved.get(String(node.id)) ?? [0, 0]
    const most = (node) => [0, 1].map((side) => Math.max(node.size[side], room(node)[side]))
    sizes = new Map(app.graph.nodes.map((node) => [node.id, most(node)]))
    await quiet(700) // missing files are looked for after loading
    await frame()
  }

  function missing() {
    const keeps = Boolean(store('missingModel')) // older editors tell in a dialog alone
    const models = store('missingModel')?.missingModelCandidates ?? []
    const media = store('missingMedia')?.missingMediaCandidates ?? []
    const nodes = store('missingNodesError')?.missingNodesError?.nodeTypes ?? []
    return {
      keeps,
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

  // The whole workflow, or the subgraph that was entered.
  const inSight = () => app.canvas.graph ?? app.graph

  function bounds() {
    const { nodes, groups, reroutes, inputNode, outputNode } = inSight()
    const ends = [inputNode, outputNode].filter(Boolean)
    const items = [...nodes, ...groups, ...ends].map((i) => [...i.boundingRect])
    for (const { pos } of reroutes?.values() ?? []) items.push([...pos, 0, 0])
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

  // Which kind of nodes the editor draws; says whether it can. No graph is open meanwhile, as some
  // editors move its nodes apart then.
  async function mode(kind) {
    const { setting } = app.extensionManager
    // Before that they were an experiment.
    const [major, minor] = (window.__COMFYUI_FRONTEND_VERSION__ ?? '1.0').split('.').map(Number)
    if (major < 2 && minor < 40) return kind === 'classic'
    await empty('mode')
    await setting.set('Comfy.VueNodes.Enabled', kind === 'vue')
    await quiet(300)
    await frame()
    return true
  }

  // Where everything is, in the graph's own pixels: as the browser says of what it laid out itself,
  // and as the editor says of what it draws on its canvas.
  function laid() {
    const { scale, offset } = app.canvas.ds
    const view = app.canvas.canvas.getBoundingClientRect()
    const place = (element) => {
      const { left, top, right, bottom } = element.getBoundingClientRect()
      const at = (x, y) => [(x - view.x) / scale - offset[0], (y - view.y) / scale - offset[1]]
      return [...at(left, top), ...at(right, bottom)]
    }
    const { nodes: all, groups } = inSight()
    const nodes = all.map((node) => {
      const [x, y, width, height] = node.boundingRect
      let box = [x, y, x + width, y + height]
      const element = document.querySelector(`[data-node-id="${node.id}"]`)
      if (element) box = place(element)
      return { id: node.id, title: node.title, type: node.type, box }
    })
    const widgets = [...document.querySelectorAll('.dom-widget')].filter((e) => e.offsetWidth)
    return {
      nodes,
      widgets: widgets.map(place),
      groups: groups.map(({ pos: [x, y], size: [width, height] }) => [x, y, x + width, y + height]),
      behind: behind(nodes),
      notes: [...document.querySelectorAll('.comfy-markdown, .comfy-markdown-content')]
        .filter((e) => e.offsetWidth)
        .map(legible)
    }
  }

  // Wires that are drawn where a node is: by painting each as the editor does.
  function behind(nodes) {
    const all = bounds()
    const small = 0.25
    const paper = document.createElement('canvas')
    paper.width = Math.ceil(all[2] * small)
    paper.height = Math.ceil(all[3] * small)
    const pen = paper.getContext('2d', { willReadFrequently: true })
    const graph = inSight()
    const segments = [...graph.links.values(), ...graph.reroutes.values()]
    const found = []
    for (const segment of segments) {
      if (!segment.path) continue
      pen.setTransform(1, 0, 0, 1, 0, 0)
      pen.clearRect(0, 0, paper.width, paper.height)
      pen.setTransform(small, 0, 0, small, -all[0] * small, -all[1] * small)
      pen.lineWidth = 4
      pen.stroke(segment.path)
      for (const { title, box } of nodes) {
        // The ends of a wire and its round cap reach a little into its own nodes.
        const [left, top, right, bottom] = box.map((v, i) => (v + (i < 2 ? 12 : -12) - all[i % 2]) * small)
        const seen = pen.getImageData(left, top, Math.max(right - left, 1), Math.max(bottom - top, 1)).data
        if (seen.some((v, i) => i % 4 === 3 && v > 64)) {
          found.push([graph.getNodeById(segment.origin_id)?.title ?? `reroute ${segment.id}`, title])
        }
      }
    }
    return { drawn: segments.filter((s) => s.path).length, found }
  }

  // Contrast of a note's text with what is behind it (WCAG), and the pixels of it out of sight.
  function legible(element) {
    const values = (color) => (color.match(/[\d.]+/g) ?? []).map(Number)
    const light = (rgb) => {
      const linear = rgb.map((v) => (v > 10.3 ? ((v / 255 + 0.055) / 1.055) ** 2.4 : v / 3295))
      return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    }
    // Classic notes are painted on the canvas, below the text.
    const hex = app.graph.nodes.find((n) => n.type === 'MarkdownNote').bgcolor.replace('#', '')
    let back = [...hex.padEnd(6, hex)].filter((_, i) => hex.length === 3 || i % 2 === 0).slice(0, 3)
    back = back.map((digit, i) => parseInt(hex.length === 3 ? digit + digit : hex.slice(2 * i, 2 * i + 2), 16))
    const around = []
    for (let e = element; e.closest('.dom-widget, [data-node-id]'); e = e.parentElement) around.unshift(e)
    for (const e of around) {
      const [r, g, b, opaque = 1] = values(getComputedStyle(e).backgroundColor)
      back = back.map((v, i) => v + ([r, g, b][i] - v) * opaque)
    }
    const texts = [element, ...element.querySelectorAll('p, em, strong, td, th, a, h1, h2, li')]
    const contrasts = texts.map((e) => {
      const pair = [light(values(getComputedStyle(e).color).slice(0, 3)), light(back)]
      return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05)
    })
    const shown = [element, ...element.children].filter((e) => e.tagName !== 'TEXTAREA')
    const hidden = shown.map((e) => e.scrollHeight - e.clientHeight)
    return { contrast: Math.min(...contrasts), hidden: Math.max(...hidden), text: element.textContent.slice(0, 30) }
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

  // Whether pictures are still being fetched, which classic nodes do when they are drawn.
  function awaited() {
    app.canvas.setDirty(true, true)
    if (document.querySelector('[data-node-id]')) {
      return [...document.querySelectorAll('[data-node-id] img')].some((img) => !img.complete)
    }
    return app.graph.nodes.some((node) => {
      const { images, animated } = app.nodeOutputs?.[node.id] ?? {}
      return images?.length && !animated?.[0] && node.imgs?.length !== images.length
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
    // Some editors call any answer about nodes a refusal, even an empty one.
    const refused = (await app.queuePrompt(0)) === false
    if (refused && Object.keys(app.lastNodeErrors ?? { none: 0 }).length) return ['refused', null]
    const [event, detail] = await over
    await quiet(1500)
    for (let turn = 0; turn < 40 && awaited(); turn += 1) await quiet(250)
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

  // New nodes in rows: their least heights without titles, in the kind of nodes that is drawn.
  async function fresh(types) {
    await empty('fresh')
    const nodes = types.map((type, i) => {
      const node = window.LiteGraph.createNode(type)
      app.graph.add(node)
      node.pos = [(i % 10) * 460, Math.floor(i / 10) * 900]
      node.setSize([420, node.computeSize()[1]])
      return node
    })
    await fit()
    await quiet(1500)
    return Object.fromEntries(laid().nodes.map(({ id, box }) => {
      const node = nodes.find((n) => n.id === id)
      return [node.type, Math.round(box[3] - box[1] - window.LiteGraph.NODE_TITLE_HEIGHT)]
    }))
  }

  // A blueprint as the node library drops it, between other nodes: [kind, {widget: value}], linked by
  // [from, output, to, input], where a node is its place in the list or null for the blueprint.
  // Of a widget inside a subgraph, some editors write "1: crop_size" for a name.
  const shownName = (widget) => widget.name.replace(/^[\d:]+: /, '')

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
        const widget = node.widgets.find((w) => shownName(w) === key)
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
      widgets: whole.widgets.map((w) => [shownName(w), w.value])
    }
    fill(whole, widgets)
    await quiet(300)
    return { ...answer, missing: missing(), untidy: untidy(), api: (await app.graphToPrompt()).output }
  }

  async function enter() {
    const whole = app.graph.nodes.find((node) => node.subgraph)
    app.canvas.openSubgraph(whole.subgraph, whole)
    await quiet(700)
    await frame()
  }

  function leave() {
    app.canvas.setGraph(app.rootGraph ?? app.graph.rootGraph ?? app.graph)
  }

  window.seen = { drop, enter, leave, grown, laid, mode, open, missing, untidy, fit, shown, run, fresh, frame, quiet, store }
}

const browser = await chromium.launch({
  executablePath: job.chromium,
  args: ['--no-sandbox', '--disable-dev-shm-usage']
})
const page = await browser.newPage({ viewport: { width: 2400, height: 1500 } })
const faults = []
page.on('pageerror', (error) => faults.push(error.stack ?? String(error)))
await page.goto(job.address)
await page.waitForFunction(
  () => window.app?.graph && Object.keys(window.LiteGraph?.registered_node_types ?? {}).length > 50
)
await page.waitForFunction(() => document.querySelector('#vue-app')?.__vue_app__)
const seen = { workflows: {}, faults, frontend: await page.evaluate(() => window.__COMFYUI_FRONTEND_VERSION__) }

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
    for (let calm = 0; calm < 24; calm += 1, await window.seen.quiet(250)) {
      const cards = [...document.querySelectorAll('[role=dialog] [data-testid^=template-workflow-]')]
      for (const card of cards) {
        const picture = card.querySelector('img')
        if (name(card) in found || !picture?.naturalWidth) continue
        found[name(card)] = [picture.naturalWidth, picture.naturalHeight]
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
    #graph-canvas, .dom-widget, .dom-widget *, [data-node-id], [data-node-id] * {
      visibility: visible !important }`
})

const MODES = ['classic', 'vue']
for (const task of job.workflows) {
  seen.workflows[task.name] = { laid: {} }
  for (const mode of MODES) {
    if (!(await page.evaluate((m) => window.seen.mode(m), mode))) continue
    const answer = await page.evaluate(async ({ name, url }) => {
      const graph = await (await fetch(url)).json()
      await window.seen.open(graph, name)
      return {
        missing: window.seen.missing(),
        untidy: window.seen.untidy(),
        api: (await window.app.graphToPrompt()).output
      }
    }, task)
    await page.evaluate(() => window.seen.fit())
    const laid = { opened: await page.evaluate(() => window.seen.laid()) }
    if (task.run) {
      answer.ran = await page.evaluate((s) => window.seen.run(s), task.run)
      answer.grown = await page.evaluate(() => window.seen.grown())
    }
    Object.assign(answer, await shot(mode === 'classic' ? task.name : `${mode}_${task.name}`))
    if (task.run) laid.ran = await page.evaluate(() => window.seen.laid())
    answer.shown = await page.evaluate(() => window.seen.shown())
    const all = seen.workflows[task.name]
    all.laid[mode] = laid
    if (mode === 'classic') Object.assign(all, answer)
    else all[mode] = answer
  }
}
await page.evaluate(() => window.seen.mode('classic'))

seen.blueprints = {}
for (const task of job.blueprints ?? []) {
  const answer = await page.evaluate((given) => window.seen.drop(given), task)
  if (answer.known.length) {
    answer.ran = await page.evaluate((s) => window.seen.run(s), task.run)
    Object.assign(answer, await shot(task.name.replaceAll(' ', '_')))
    answer.shown = await page.evaluate(() => window.seen.shown())
    answer.laid = {}
    for (const mode of MODES) {
      if (!(await page.evaluate((m) => window.seen.mode(m), mode))) continue
      await page.evaluate((given) => window.seen.drop(given), task)
      await page.evaluate(() => window.seen.enter())
      await page.evaluate(() => window.seen.fit())
      answer.laid[mode] = { opened: await page.evaluate(() => window.seen.laid()) }
      await shot(`inside_${mode}_${task.name.replaceAll(' ', '_')}`)
      await page.evaluate(() => window.seen.leave())
    }
    await page.evaluate(() => window.seen.mode('classic'))
  }
  seen.blueprints[task.name] = answer
}

seen.fresh = {}
for (const mode of job.fresh ? MODES : []) {
  if (!(await page.evaluate((m) => window.seen.mode(m), mode))) continue
  seen.fresh[mode] = await page.evaluate((types) => window.seen.fresh(types), job.fresh)
  await shot(`fresh_${mode}`)
}
await browser.close()
console.log(JSON.stringify(seen))
