/**
 * What nodes of this pack say of a run stays on them after the job has ended.
 *
 * It is the `text` of a node's `executed` event, and stands in a read-only box below the node's other
 * widgets. The box comes with the first result and takes the height that is left on the node, which
 * grows where less than ROOM pixels are left (Vue nodes need 28 more, for the badge). The box is no
 * input: what is sent to the server, and the widget values in files, are those of a node without it.
 *
 * The text is kept in the node's properties, hence with the workflow. The server takes it out of the
 * workflow that pictures hold: there it would be the result of the run before.
 */
import { app } from '../../../scripts/app.js'

const ROOM = 96
const NAME = 'facewright_result'
/** What these say is about this machine, and no business of whoever is given the workflow. */
const PRIVATE = ['FacewrightDoctor', 'FacewrightSavePerson']
const LABELS = { es: 'Resultado', ja: '\u7d50\u679c', zh: '\u7ed3\u679c', 'zh-TW': '\u7d50\u679c' }
/** What these say is a warning, and most runs have none. */
const WARNING = ['FacewrightOneStepRestore']
/** Letters kept with the workflow; of a video there may be thousands of lines. */
const MOST = 8000

const workflows = () => app.extensionManager?.workflow
const root = () => app.rootGraph ?? app.graph

/** The node's box, made where there is none yet. */
function box(node) {
  const there = node.widgets?.find(({ name }) => name === NAME)
  if (there) return there
  const [width, height] = node.size
  const alone = !node.serialize().widgets_values
  const { widget } = app.widgets.STRING(node, NAME, ['STRING', { multiline: true }], app)
  widget.label = LABELS[app.extensionManager?.setting?.get('Comfy.Locale')] ?? 'Result'
  widget.alone = alone
  widget.element.readOnly = true
  widget.serialize = false // one keeps it out of files, the other out of prompts
  Object.assign(widget.options, {
    serialize: false,
    read_only: true,
    getMinHeight: () => ROOM,
    getMaxHeight: () => (node.imgs?.length ? ROOM : undefined) // the rest is the picture's
  })
  const needed = node.computeSize()
  node.setSize([Math.max(width, needed[0]), Math.max(height, needed[1])])
  return widget
}

function show(node, text) {
  if (!node?.comfyClass?.startsWith('Facewright') || typeof text !== 'string' || !text) return
  box(node).value = text
  node.setDirtyCanvas(true, true)
  if (!PRIVATE.includes(node.comfyClass)) keep(node, beginning(text))
}

/**
 * A warning of the run before may not come again: it goes when its node starts, or when the server
 * remembers of an earlier run that there was none.
 */
function takeBack({ detail }) {
  const node = detail === null || detail === undefined ? null : nodeAt(String(detail?.node ?? detail))
  if (!WARNING.includes(node?.comfyClass) || !node.properties?.[NAME]) return
  box(node).value = ''
  keep(node, '')
}

function beginning(text) {
  if (text.length <= MOST) return text
  const lines = text.slice(0, MOST).split('\n').slice(0, -1)
  return [...lines, `and ${text.split('\n').length - lines.length} more lines: run again to see them`].join('\n')
}

/**
 * With the node, and with what the editor compares it with: a result is no edit, which would mark the
 * workflow as changed and be one more step to undo.
 */
function keep(node, text) {
  node.properties[NAME] = text
  const tracker = workflows()?.activeWorkflow?.changeTracker
  if (!tracker) return
  const { initialState, activeState, undoQueue = [], redoQueue = [] } = tracker
  for (const state of [initialState, activeState, ...undoQueue, ...redoQueue]) {
    const inner = state?.definitions?.subgraphs?.find(({ id }) => id === node.graph?.id)
    const nodes = (node.graph === root() ? state : inner)?.nodes
    const same = nodes?.find(({ id, type }) => String(id) === String(node.id) && type === node.type)
    if (same) same.properties = { ...same.properties, [NAME]: text }
  }
  tracker.updateModified?.() // lets the editor write its draft, which a reload brings back
}

/** The text of an output; a node that ran once for each element of a list has several. */
const textOf = (output) => (Array.isArray(output?.text) ? output.text.join('\n') : output?.text)

/** Whether an output is of a job of another tab: nodes there may bear the same number. */
function ofAnotherTab(output) {
  const { activeWorkflow, openWorkflows = [] } = workflows() ?? {}
  const has = (workflow) => Object.values(workflow?.changeTracker?.nodeOutputs ?? {}).includes(output)
  return !has(activeWorkflow) && openWorkflows.some(has)
}

/** By its place: "7", "3:7" in the subgraph node 3, or "uuid:7" in the subgraph of that id. */
function nodeAt(place) {
  const path = place.split(':')
  const id = path.pop()
  let graph = root()
  for (const step of path) graph = graph?.subgraphs?.get(step) ?? graph?.getNodeById(step)?.subgraph
  return graph?.getNodeById(id)
}

function showAll(outputs) {
  for (const [place, output] of Object.entries(outputs ?? {})) show(nodeAt(place), textOf(output))
}

app.registerExtension({
  name: 'facewright.results',
  setup() {
    app.api.addEventListener('executing', takeBack)
    app.api.addEventListener('executed', (event) => event.detail?.output || takeBack(event))
  },
  beforeRegisterNodeDef(nodeType, { name }) {
    if (!name.startsWith('Facewright')) return
    const { onExecuted, onConfigure, onSerialize } = nodeType.prototype
    nodeType.prototype.onExecuted = function (output) {
      onExecuted?.apply(this, arguments)
      // When every listener of the event has run, the tab it belongs to has its outputs.
      queueMicrotask(() => ofAnotherTab(output) || show(this, textOf(output)))
    }
    nodeType.prototype.onConfigure = function () {
      onConfigure?.apply(this, arguments)
      const kept = this.properties?.[NAME]
      if (typeof kept === 'string' && kept) box(this).value = kept
    }
    // A node that has no other widget is saved without values, as it is without the box.
    nodeType.prototype.onSerialize = function (saved) {
      onSerialize?.apply(this, arguments)
      if (!this.widgets?.[0]?.alone || this.widgets.length > 1) return
      delete saved.widgets_values
      delete saved.widgets_values_named
    }
  },
  // Another tab is in front, or a job is opened again.
  onNodeOutputsUpdated: showAll,
  // An edit was taken back.
  afterConfigureGraph: () => showAll(app.nodeOutputs)
})
