// A participant of msgflo-nodejs: for every temperature it says whether a fan should run.
const msgflo = require('msgflo-nodejs');

module.exports = (client, role) => {
  const definition = {
    component: 'NodeFan',
    icon: 'sun-o',
    label: 'Says whether a fan should run',
    inports: [{ id: 'temp', type: 'number' }],
    outports: [{ id: 'fan', type: 'boolean' }],
  };
  const process = (inport, data, done) => done('fan', null, typeof data === 'number');
  return new msgflo.participant.Participant(client, definition, process, role);
};
