/* Browsers refuse workers on file:// pages. There the worker of the search is a hidden frame that
   has the same messages; elsewhere nothing changes. */
"use strict";
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.appendChild(frame);
      this.inside = frame.contentWindow;
      const load = (name) =>
        new Promise((done, failed) => {
          const script = frame.contentDocument.createElement("script");
          Object.assign(script, { src: name, onload: done, onerror: failed });
          frame.contentDocument.body.appendChild(script);
        });
      this.inside.importScripts = (...names) =>
        names.reduce((before, name) => before.then(() => load(name)), Promise.resolve());
      this.inside.postMessage_ = this.inside.postMessage.bind(this.inside);
      this.inside.postMessage = (data) => {
        const event = new MessageEvent("message", { data });
        this.dispatchEvent(event);
        if (this.onmessage) this.onmessage(event);
      };
      this.ready = load(url);
    }
    postMessage(data) {
      this.ready.then(() => this.inside.postMessage_(data, "*"));
    }
    terminate() {}
  };
}
