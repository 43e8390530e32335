/**
 * The seed of a fresh node stays as it is from run to run where most runs do not depend on it: the
 * editor would draw another one each time, and the node would work again for the same result.
 */
import { app } from '../../../scripts/app.js'

const FIXED = ['FacewrightOneStepRestore', 'FacewrightRestoreVideo']

app.registerExtension({
  name: 'facewright.seeds',
  nodeCreated(node) {
    if (!FIXED.includes(node.comfyClass)) return
    const control = node.widgets?.find(({ name }) => name === 'control_after_generate')
    if (control) control.value = 'fixed' // before the values of a saved node are put in
  }
})
