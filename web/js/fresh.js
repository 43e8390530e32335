/**
 * What a fresh node starts with in the editor, where that is another value than the one that files
 * without a value stand for, which has to stay.
 *
 * Seeds stay as they are from run to run where most runs do not depend on them: the editor would draw
 * another one each time, and the node would work again for the same result. Of the face detectors, the
 * best that is here is taken.
 */
import { app } from '../../../scripts/app.js'

const FRESH = {
  FacewrightOneStepRestore: { control_after_generate: 'fixed' },
  FacewrightRestoreVideo: { control_after_generate: 'fixed' },
  FacewrightLoadFaceAnalyzer: { backend: 'auto' }
}

app.registerExtension({
  name: 'facewright.fresh',
  nodeCreated(node) {
    const values = FRESH[node.comfyClass] ?? {}
    for (const widget of node.widgets ?? []) {
      if (widget.name in values) widget.value = values[widget.name] // a saved node's come after
    }
  }
})
