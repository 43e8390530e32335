/**
 * What nodes of this pack say of a run stays on them after the job has ended.
 *
 * It is the `text` of a node's `executed` event, and stands in a read-only box at the node's lower
 * end. The box comes with the first result and takes the height that is left on the node; a node that
 * has not got ROOM pixels left grows until it has. The box is no input: what is sent to the server,
 * and the widget values in files, are those of a node without it.
 *
 * The text is kept in the node's properties, hence with the workflow.
 */
import { app } from '../../../scripts/app.js'

const ROOM = 96
const NAME = 'facewright_result'
/** What these say is about this machine, and no business of whoever is given the workflow. */
const PRIVATE = ['FacewrightDoctor', 'FacewrightSavePerson']

/** The node's box, made where there is none yet. */
function box(node) {
  const there = node.widgets?.find(({ name }) => name === NAME)
  if (there) return there
  const [width, height] = node.size
  const { widget } = app.widgets.STRING(node, NAME, ['STRING', { multiline: true }], app)
  widget.label = 'Result'
  widget.element.readOnly = true
  widget.serialize = false // one keeps it out of files, the other out of prompts
  Object.assign(widget.options, { serialize: false, read_only: true, getMinHeight: () => ROOM })
  const needed = node.computeSize()
  node.setSize([Math.max(width, needed[0]), Math.max(height, needed[1])])
  return widget
}

function show(node, text) {
  if (!node?.comfyClass?.startsWith('Facewright') || typeof text !== 'string' || !text) return
  box(node).value = text
  node.setDirtyCanvas(true, true)
  if (!PRIVATE.includes(node.comfyClass)) node.properties[NAME] = text
}

/** The text of an output; a node that ran once for each element of a list has several. */
const textOf = (output) => (Array.isArray(output?.text) ? output.text.join('\n') : output?.text)

/** By its place: "7", "3:7" in the subgraph node 3, or "uuid:7" in the subgraph of that id. */
function nodeAt(place) {
  const path = place.split(':')
  const id = path.pop()
  let graph = app.rootGraph ?? app.graph
  for (const step of path) {
    graph = graph?.subgraphs?.get(step) ?? graph?.getNodeById(step)?.subgraph
  }
  return graph?.getNodeById(id)
}

function showAll(outputs) {
  for (const [place, output] of Object.entries(outputs ?? {})) show(nodeAt(place), textOf(output))
}

app.registerExtension({
  name: 'facewright.results',
  beforeRegisterNodeDef(nodeType, { name }) {
    if (!name.startsWith('Facewright')) return
    const { onExecuted, onConfigure } = nodeType.prototype
    nodeType.prototype.onExecuted = function (output) {
      onExecuted?.apply(this, arguments)
      show(this, textOf(output))
    }
    nodeType.prototype.onConfigure = function () {
      onConfigure?.apply(this, arguments)
      show(this, this.properties?.[NAME])
    }
  },
  // Another tab's outputs, or those of a job that is opened again.
  onNodeOutputsUpdated: showAll,
  // After undo the outputs are still those of the last run.
  afterConfigureGraph: () => showAll(app.nodeOutputs)
})
