// The server of Go's standard library. It handles no signal.
package main

import (
	"io"
	"log"
	"net/http"
	"os"
)

func main() {
	http.HandleFunc("/", func(answer http.ResponseWriter, _ *http.Request) {
		io.WriteString(answer, os.Getenv("NODE_APP_INSTANCE"))
	})
	log.Fatal(http.ListenAndServe(os.Getenv("ADDRESS"), nil))
}
