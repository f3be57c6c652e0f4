// github.com/donovanhide/eventsource, which Mercure's documentation lists for Go: mercure-go subscribe HUB TOKEN JSON;
// what it has to say goes out, a JSON object a line.
package main

import (
	"encoding/json"
	"log"
	"net/http"
	"net/url"
	"os"

	"github.com/donovanhide/eventsource"
)

func say(what map[string]any) {
	if err := json.NewEncoder(os.Stdout).Encode(what); err != nil {
		log.Fatal(err)
	}
}

func main() {
	var given struct{ Topics []string }
	if err := json.Unmarshal([]byte(os.Args[4]), &given); err != nil {
		log.Fatal(err)
	}
	request, err := http.NewRequest("GET", os.Args[2]+"?"+url.Values{"topic": given.Topics}.Encode(), nil)
	if err != nil {
		log.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+os.Args[3])
	stream, err := eventsource.SubscribeWithRequest("", request)
	if err != nil {
		log.Fatal(err)
	}
	say(map[string]any{"open": true})
	for event := range stream.Events {
		say(map[string]any{"id": event.Id(), "type": event.Event(), "data": event.Data()})
	}
}
