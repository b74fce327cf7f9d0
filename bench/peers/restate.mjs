// A Restate service with one handler that does nothing: what is measured is Restate's own durable, once-only acceptance.
// PORT by environment.
import * as restate from '@restatedev/restate-sdk';

const webhook = restate.service({
  name: 'webhook',
  handlers: { receive: async (_, event) => ({ id: event.id }) },
});
await restate.serve({ services: [webhook], port: Number(process.env.PORT) });
