package config

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// Load reads the file (none if empty), the environment and the flags, fills in defaults and checks everything.
func Load(file string, fs *pflag.FlagSet) (*Config, error) {
	v := viper.New()
	defaults := pflag.NewFlagSet("", pflag.ContinueOnError)
	for _, x := range flags() {
		x.add(defaults)
		given := fs.Lookup(x.name)
		if given == nil || !annotated(given) {
			given = defaults.Lookup(x.name)
		}
		if err := v.BindPFlag(x.key, given); err != nil {
			return nil, err
		}
	}
	v.SetEnvPrefix("TERASTAL")
	v.SetEnvKeyReplacer(strings.NewReplacer(".", "_"))
	v.AutomaticEnv()
	if file != "" {
		data, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		defer data.Close()
		v.SetConfigType("yaml")
		if err := v.ReadConfig(data); err != nil {
			return nil, fmt.Errorf("%w: %s: %s", ErrInvalid, file, oneLine(err))
		}
	}
	if s, ok := v.Get("accelerators").(string); ok && s == "auto" {
		v.Set("accelerators", []any{})
	}
	c := &Config{file: file, promised: v.IsSet("accuracy")}
	if err := decode(v, c); err != nil {
		return nil, fmt.Errorf("%w%s: %s", ErrInvalid, c.in(), oneLine(err))
	}
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("%w%s: %w", ErrInvalid, c.in(), err)
	}
	return c, nil
}

func (c *Config) in() string {
	if c.file == "" {
		return ""
	}
	return " in " + c.file
}

func oneLine(err error) string {
	text := strings.TrimPrefix(err.Error(), "decoding failed due to the following error(s):")
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' }), " ")
}

// decode fills c from v and refuses keys that c does not have.
func decode(v *viper.Viper, c *Config) error {
	var md mapstructure.Metadata
	hook := mapstructure.ComposeDecodeHookFunc(duration, mapstructure.StringToSliceHookFunc(","))
	options := func(dc *mapstructure.DecoderConfig) { dc.Metadata, dc.DecodeHook = &md, hook }
	if err := v.Unmarshal(c, options); err != nil {
		return err
	}
	if len(md.Unused) > 0 {
		slices.Sort(md.Unused)
		key := md.Unused[0]
		return fmt.Errorf("unknown key %q, here can be %s", key, strings.Join(known(key), ", "))
	}
	return nil
}

// duration reads a duration, and refuses a number without a unit: 10 could mean anything.
func duration(from, to reflect.Type, value any) (any, error) {
	if to != reflect.TypeFor[time.Duration]() || from == to {
		return value, nil
	}
	if from.Kind() == reflect.String {
		if d, err := time.ParseDuration(value.(string)); err == nil {
			return d, nil
		}
	}
	return nil, fmt.Errorf("%v is not a duration: write a number with its unit, such as 10ms or 1.5s", value)
}

// known lists the keys of the section that a key is in.
func known(key string) []string {
	t := reflect.TypeFor[Config]()
	parts := strings.Split(key, ".")
	for _, part := range parts[:len(parts)-1] {
		name, _, _ := strings.Cut(part, "[")
		for i := range t.NumField() {
			if f := t.Field(i); f.Tag.Get("mapstructure") == name {
				t = f.Type
				if t.Kind() == reflect.Slice {
					t = t.Elem()
				}
				break
			}
		}
		if t.Kind() != reflect.Struct {
			return nil
		}
	}
	var out []string
	for i := range t.NumField() {
		if tag := t.Field(i).Tag.Get("mapstructure"); tag != "" {
			out = append(out, tag)
		}
	}
	return out
}
