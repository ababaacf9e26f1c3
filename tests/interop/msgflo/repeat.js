// A participant of msgflo-nodejs: repeats what it gets; what it is told to refuse, it refuses.
const msgflo = require('msgflo-nodejs');

module.exports = (client, role) => {
  const definition = {
    component: 'NodeRepeat',
    icon: 'repeat',
    label: 'Repeats what it gets',
    inports: [{ id: 'in', type: 'any' }],
    outports: [{ id: 'out', type: 'any' }],
  };
  const process = (inport, data, done) => {
    if (data === 'refuse') {
      done(null, new Error('refused'));
      return;
    }
    done('out', null, data);
  };
  return new msgflo.participant.Participant(client, definition, process, role);
};
