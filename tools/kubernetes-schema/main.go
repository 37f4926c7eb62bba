// Command kubernetes-schema writes src/export/kubernetes.schema: how each built-in kind of Kubernetes lies in etcd as protocol
// buffers, and which JSON it is. It asks the Go types of k8s.io/api themselves, so that names, inlined structs and pointers are
// those that an API server uses. Run it by make.sh.
package main

import (
	"fmt"
	"os"
	"reflect"
	"sort"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
)

// Types whose JSON is not that of their fields.
var special = map[string]string{
	"k8s.io/apimachinery/pkg/apis/meta/v1.Time":         "time",
	"k8s.io/apimachinery/pkg/apis/meta/v1.MicroTime":    "microtime",
	"k8s.io/apimachinery/pkg/apis/meta/v1.Duration":     "duration",
	"k8s.io/apimachinery/pkg/apis/meta/v1.FieldsV1":     "json",
	"k8s.io/apimachinery/pkg/runtime.RawExtension":      "json",
	"k8s.io/apimachinery/pkg/util/intstr.IntOrString":   "intorstring",
	"k8s.io/apimachinery/pkg/api/resource.Quantity":     "quantity",
}

type marshaler interface{ Marshal() ([]byte, error) }

var (
	isMarshaler = reflect.TypeOf((*marshaler)(nil)).Elem()
	pending     []reflect.Type
	seen        = map[reflect.Type]string{}
)

func main() {
	var kinds []string
	for gvk, goType := range scheme.Scheme.AllKnownTypes() {
		if gvk.Version == runtime.APIVersionInternal || !reflect.PointerTo(goType).Implements(isMarshaler) {
			continue
		}
		if _, stored := goType.FieldByName("ObjectMeta"); !stored {
			continue
		}
		kinds = append(kinds, fmt.Sprintf("kind %s %s %s", gvk.GroupVersion(), gvk.Kind, message(goType)))
	}
	sort.Strings(kinds)
	var messages []string
	for len(pending) > 0 {
		next := pending[0]
		pending = pending[1:]
		messages = append(messages, describe(next))
	}
	sort.Strings(messages)
	fmt.Printf("# How the built-in kinds of Kubernetes are stored: written by tools/kubernetes-schema from the types of\n")
	fmt.Printf("# k8s.io/api %s (Apache-2.0). Do not edit.\n", os.Args[1])
	fmt.Printf("# kind API-VERSION KIND MESSAGE, then for each message: FIELD NAME TYPE [FLAGS]. [] repeated, {} a map from text;\n")
	fmt.Printf("# p what is there is shown even when it is zero, k shown even when zero, i its fields are those of the parent.\n")
	fmt.Println(strings.Join(kinds, "\n"))
	fmt.Print(strings.Join(messages, ""))
}

// message is the short name of a type; it will be described.
func message(t reflect.Type) string {
	if name, known := seen[t]; known {
		return name
	}
	path := strings.Split(t.PkgPath(), "/")
	name := strings.Join(path[len(path)-2:], "/") + "." + t.Name()
	seen[t] = name
	pending = append(pending, t)
	return name
}

func describe(t reflect.Type) string {
	var out strings.Builder
	fmt.Fprintf(&out, "message %s\n", seen[t])
	if t.Kind() == reflect.Slice {
		fmt.Fprintf(&out, "1 items []%s i\n", typeName(t.Elem()))
		return out.String()
	}
	for i := 0; i < t.NumField(); i++ {
		field := t.Field(i)
		wire := strings.Split(field.Tag.Get("protobuf"), ",")
		names := strings.Split(field.Tag.Get("json"), ",")
		if len(wire) < 2 || names[0] == "-" {
			continue
		}
		has := func(option string) bool {
			for _, name := range names[1:] {
				if name == option {
					return true
				}
			}
			return false
		}
		name, flags := names[0], ""
		if has("inline") || (field.Anonymous && name == "") {
			flags = " i"
		} else if field.Type.Kind() == reflect.Pointer {
			flags = " p"
		} else if !has("omitempty") && !has("omitzero") {
			flags = " k"
		}
		if name == "" {
			name = field.Name
		}
		fmt.Fprintf(&out, "%s %s %s%s\n", wire[1], name, typeName(field.Type), flags)
	}
	return out.String()
}

func typeName(t reflect.Type) string {
	if t.Kind() == reflect.Pointer {
		return typeName(t.Elem())
	}
	if name, is := special[t.PkgPath()+"."+t.Name()]; is {
		return name
	}
	if t.Name() != "" && t.Kind() == reflect.Slice && reflect.PointerTo(t).Implements(isMarshaler) {
		return message(t)
	}
	switch t.Kind() {
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "bool"
	case reflect.Int32, reflect.Int64, reflect.Int:
		return "int"
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "uint"
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return "bytes"
		}
		return "[]" + typeName(t.Elem())
	case reflect.Map:
		return "{}" + typeName(t.Elem())
	case reflect.Struct:
		return message(t)
	}
	panic(fmt.Sprintf("no word for the type %v", t))
}
